//! The real [`Remote`]: one connection, one channel a command.

use std::time::{Duration, Instant};

use ssh2::Channel;

use super::link::{Failure, Link, Watch};
use super::{Output, Remote, Target, connect, shorten, tail};
use crate::error::{Error, Kind, Result};
use crate::{fault, interrupt};

/// How long a command may take unless the caller says otherwise.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// How long a connection that broke may take to come back.
const RECONNECT: Duration = Duration::from_secs(30);

/// The longest command: it has to fit into one SSH packet with its header.
const COMMAND_BYTES: usize = 30_000;

/// The most that a command may write to one output, in bytes: it is kept in memory, and what the
/// node says need not be true.
const OUTPUT_MOST: usize = 64 << 20;

/// A connection to the node. It reconnects by itself for the next command after it broke; a
/// command that was under way is not repeated.
pub struct Ssh {
    target: Target,
    link: Option<Link>,
}

impl Ssh {
    /// Connects with a single attempt that takes at most `timeout`.
    ///
    /// # Errors
    /// [`Kind::NodeUnreachable`] when the node does not answer, is not the one with the pinned
    /// host key, or refuses the key; [`Kind::State`] when a key file is missing or damaged;
    /// [`Kind::Interrupted`] on Ctrl-C.
    pub fn connect(target: &Target, timeout: Duration) -> Result<Ssh> {
        Ok(Ssh::around(target, connect::once(target, timeout)?))
    }

    /// Connects to a node that may still be booting: tries every 150 ms until `deadline`.
    ///
    /// `tick` is called about ten times a second with the time since the begin; an error from it
    /// ends the wait, so the caller can watch the machine's console meanwhile.
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

    /// Where this connection leads.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Keeps the connection, but makes it to another target when it has to be made again: the node
    /// is about to get other keys.
    #[must_use]
    pub fn heading_for(mut self, target: Target) -> Ssh {
        self.target = target;
        self
    }

    fn around(target: &Target, link: Link) -> Ssh {
        Ssh {
            target: target.clone(),
            link: Some(link),
        }
    }

    /// A channel on the connection; a connection that broke since the last command is made anew.
    /// The connection goes with it: [`Ssh::take_back`].
    pub(super) fn open(&mut self, watch: &mut Watch<'_>) -> Result<(Link, Channel), Failure> {
        if let Some(mut link) = self.link.take() {
            match link.open(watch) {
                Ok(channel) => return Ok((link, channel)),
                Err(Failure::Ssh(_) | Failure::Io(_) | Failure::Silent | Failure::Flooded) => {}
                Err(e) => return Err(e),
            }
        }
        let left = watch.until.map_or(RECONNECT, |until| {
            RECONNECT.min(until.saturating_duration_since(Instant::now()))
        });
        let mut link = connect::once(&self.target, left).map_err(Failure::Stopped)?;
        let channel = link.open(watch)?;
        Ok((link, channel))
    }

    /// Takes a connection of [`Ssh::open`] back, on which nothing is under way any more.
    pub(super) fn take_back(&mut self, link: Link) {
        self.link = Some(link);
    }

    fn explain(&self, failure: Failure, command: &str, limit: Duration, stderr: &[u8]) -> Error {
        let command = shorten(command);
        let error = match failure {
            Failure::Stopped(e) => return e,
            Failure::Late => Error::new(
                Kind::Unhealthy,
                format!(
                    "`{command}` did not end within {} s in the node and may still be running",
                    limit.as_secs_f32().ceil()
                ),
            )
            .with_hint("see what keeps the node busy: kubby ssh -- ps aux --sort=-time"),
            other => Error::new(
                Kind::NodeUnreachable,
                format!(
                    "the connection to the node on {} was lost during `{command}`",
                    self.target.address()
                ),
            )
            .with_source(other.to_string())
            .with_hint("see whether it runs: kubby status"),
        };
        error.with_detail("its last output", tail(stderr))
    }
}

impl Remote for Ssh {
    fn exec(&mut self, command: &str, stdin: &[u8], limit: Option<Duration>) -> Result<Output> {
        check_command(command)?;
        fault::point("before", "a command in the node");
        let limit = limit.unwrap_or(COMMAND_LIMIT);
        let mut watch = Watch {
            until: Some(Instant::now() + limit),
            tick: &mut interrupt::check,
        };
        let mut output = Output {
            status: 0,
            stdout: Vec::new(),
            stderr: Vec::new(),
        };
        let result = self.open(&mut watch).and_then(|(mut link, mut channel)| {
            link.complete(&mut watch, &mut |_| channel.exec(command))?;
            exchange(&mut link, &mut watch, &mut channel, stdin, &mut output)?;
            output.status = link.finish(&mut watch, &mut channel)?;
            Ok(link)
        });
        match result {
            Ok(link) => {
                self.link = Some(link);
                fault::point("after", "a command in the node");
                Ok(output)
            }
            // The connection is dropped with the failure: an operation that was cut short
            // leaves it in a state in which no other may follow.
            Err(failure) => Err(self.explain(failure, command, limit, &output.stderr)),
        }
    }
}

/// Refuses commands that cannot be sent.
pub(super) fn check_command(command: &str) -> Result<()> {
    if command.contains('\0') {
        return Err(Error::new(
            Kind::Usage,
            "a command cannot contain a NUL byte",
        ));
    }
    if command.len() > COMMAND_BYTES {
        return Err(Error::new(
            Kind::Usage,
            format!(
                "the command has {} bytes, the most is {COMMAND_BYTES}",
                command.len()
            ),
        )
        .with_hint("send it as input to a shell instead: kubby ssh -- sh < script"));
    }
    Ok(())
}

fn too_much() -> Error {
    Error::new(
        Kind::Unhealthy,
        format!(
            "a command in the node wrote more than {} MiB",
            OUTPUT_MOST >> 20
        ),
    )
    .with_hint("look around in the node: kubby ssh")
}

/// Moves input and both outputs until the command has closed its side. Both directions take
/// turns, so neither can fill up while the other waits for it.
fn exchange(
    link: &mut Link,
    watch: &mut Watch<'_>,
    channel: &mut Channel,
    stdin: &[u8],
    output: &mut Output,
) -> Result<(), Failure> {
    let mut buffer = vec![0; 64 * 1024];
    let mut sent = 0;
    let mut eof_sent = false;
    loop {
        let mut moved = 0;
        for (stream, into) in [(0, &mut output.stdout), (1, &mut output.stderr)] {
            let n = link.read(watch, channel, stream, &mut buffer)?;
            if into.len() + n > OUTPUT_MOST {
                return Err(Failure::Stopped(too_much()));
            }
            into.extend_from_slice(&buffer[..n]);
            moved += n;
        }
        if channel.eof() {
            return Ok(());
        }
        if sent < stdin.len() {
            let n = link.write(watch, channel, &stdin[sent..])?;
            sent += n;
            moved += n;
        } else if !eof_sent {
            link.complete(watch, &mut |_| channel.send_eof())?;
            eof_sent = true;
        }
        if moved == 0 {
            link.wait(watch)?;
        } else {
            watch.check()?;
        }
    }
}
