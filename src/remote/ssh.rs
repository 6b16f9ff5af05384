//! The real [`Remote`]: one connection, one channel a command.

use std::time::{Duration, Instant};

use super::failure::Failure;
use super::link::{Link, Watch};
use super::running::{Keep, Running};
use super::{Output, Remote, Target, connect, shorten, tail};
use crate::error::{Error, Result};
use crate::fault;

/// The time for connecting and starting; what runs then has no limit.
pub(super) const START: Duration = Duration::from_secs(30);

/// The time for a command unless the caller says otherwise.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// The time for a connection that broke to come back.
const RECONNECT: Duration = Duration::from_secs(30);

/// The longest command: it has to fit into one SSH packet with its header.
const COMMAND_BYTES: usize = 30_000;

/// A connection to the node. It reconnects by itself for the next command after it broke; a
/// command that was running is not repeated.
pub struct Ssh {
    target: Target,
    link: Option<Link>,
}

impl Ssh {
    /// Connects with a single attempt that takes at most `timeout`.
    ///
    /// # Errors
    /// [`Kind::NodeUnreachable`](crate::error::Kind::NodeUnreachable) when the node does not answer, is not the one with the pinned
    /// host key, or refuses the key; [`Kind::State`](crate::error::Kind::State) when a key file is missing or damaged;
    /// [`Kind::Interrupted`](crate::error::Kind::Interrupted) on Ctrl-C.
    pub fn connect(target: &Target, timeout: Duration) -> Result<Ssh> {
        Ok(Ssh::around(target, connect::once(target, timeout)?))
    }

    /// Connects to a node that may still be booting: tries every 150 ms until `deadline`.
    ///
    /// `tick` is called about ten times a second with the time since the start; an error from it ends
    /// the wait, so the caller can watch the machine's console meanwhile.
    ///
    /// # Errors
    /// As [`Ssh::connect`]; a wrong host key or a refused login ends it at once.
    pub fn connect_when_ready(
        target: &Target,
        deadline: Instant,
        tick: &mut dyn FnMut(Duration) -> Result<()>,
    ) -> Result<Ssh> {
        Ok(Ssh::around(
            target,
            connect::when_ready(target, deadline, tick)?,
        ))
    }

    /// Returns the node that this connection leads to.
    pub fn target(&self) -> &Target {
        &self.target
    }

    fn around(target: &Target, link: Link) -> Ssh {
        Ssh {
            target: target.clone(),
            link: Some(link),
        }
    }

    /// Starts a command; makes a connection that broke since the last command again. The command has
    /// the connection for itself until [`Ssh::take_back`].
    pub(super) fn start(
        &mut self,
        watch: &mut Watch<'_>,
        command: &str,
        keep: Keep,
    ) -> Result<Running, Failure> {
        check_command(command).map_err(Failure::Stopped)?;
        let opened = self.link.take().map(|link| link.open(watch));
        let (mut link, mut channel) = match opened {
            Some(Ok(opened)) => opened,
            Some(Err(e @ (Failure::Blocked | Failure::Late | Failure::Stopped(_)))) => {
                return Err(e);
            }
            // The connection broke since the last command.
            Some(Err(_)) | None => {
                let link = connect::once(&self.target, watch.left(RECONNECT));
                link.map_err(Failure::Stopped)?.open(watch)?
            }
        };
        link.complete(watch, &mut |_| channel.exec(command))?;
        Ok(Running::new(link, channel, keep))
    }

    /// Takes the connection of an ended command back, and returns what the command left behind.
    pub(super) fn take_back(&mut self, running: Running, status: i32) -> Output {
        let (output, link) = running.into_output(status);
        self.link = Some(link);
        output
    }

    fn explain(&self, failure: Failure, command: &str, limit: Duration, stderr: &[u8]) -> Error {
        let command = shorten(command);
        let error = match failure {
            Failure::Stopped(e) => return e,
            Failure::Late => Error::unhealthy(format!(
                "`{command}` did not end within {} s in the node and may still be running",
                limit.as_secs_f32().ceil()
            ))
            .with_hint("see what keeps the node busy: kubby ssh -- ps aux --sort=-time"),
            other => other.lost_during(&format!("`{command}`"), &self.target),
        };
        error.with_detail("its last output", tail(stderr))
    }
}

impl Remote for Ssh {
    fn set_target(&mut self, target: &Target) {
        self.target = target.clone();
    }

    fn exec(&mut self, command: &str, stdin: &[u8], limit: Option<Duration>) -> Result<Output> {
        fault::point("before", "a command in the node");
        let limit = limit.unwrap_or(COMMAND_LIMIT);
        let mut watch = Watch::limit(limit);
        // The connection is dropped with a failure: an operation that was cut short leaves it in a
        // state in which no other may follow.
        let running = self.start(&mut watch, command, Keep::Whole);
        let mut running = running.map_err(|f| self.explain(f, command, limit, &[]))?;
        let written = running.write(&mut watch, stdin);
        let status = written.and_then(|_| running.finish(&mut watch));
        let status = status.map_err(|f| self.explain(f, command, limit, &running.stderr))?;
        fault::point("after", "a command in the node");
        Ok(self.take_back(running, status))
    }
}

/// Refuses commands that cannot be sent.
pub(super) fn check_command(command: &str) -> Result<()> {
    if command.contains('\0') {
        return Err(Error::usage("a command cannot contain a NUL byte"));
    }
    if command.len() > COMMAND_BYTES {
        return Err(Error::usage(format!(
            "the command has {} bytes, the most is {COMMAND_BYTES}",
            command.len()
        ))
        .with_hint("send it as input to a shell instead: kubby ssh -- sh < script"));
    }
    Ok(())
}
