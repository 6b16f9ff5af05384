//! One SSH connection, driven without ever blocking inside the library, so that every wait has a
//! deadline, sees Ctrl-C and notices a node that went silent.
//!
//! libssh2 has one rule that shapes this file: after a call could write only part of a packet to
//! the socket, nothing else can be sent until that same call is repeated and gets through.
//! [`Link::attempt`] keeps that rule.

use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ssh2::{BlockDirections, Channel, Session};

use super::failure::Failure;
use super::guard::Guard;
use crate::error::Result;
use crate::interrupt;

/// The longest wait before the caller's watch is asked again.
pub(super) const SLICE: Duration = Duration::from_millis(100);

/// Silence after which the node is asked for a sign of life.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// The number of unanswered questions in a row that mean that the node is gone.
const KEEPALIVES_LOST: u32 = 4;

/// The bounds of a wait: Ctrl-C, a point in time, and a function that may stop it.
#[derive(Default)]
pub(super) struct Watch<'a> {
    until: Option<Instant>,
    tick: Option<&'a mut dyn FnMut() -> Result<()>>,
}

impl<'a> Watch<'a> {
    /// Returns bounds that end after `limit`.
    pub(super) fn limit(limit: Duration) -> Self {
        Watch {
            until: Some(Instant::now() + limit),
            tick: None,
        }
    }

    /// Returns bounds with a function that is called at least every [`SLICE`] and whose error ends the
    /// wait.
    pub(super) fn with_tick(
        until: Option<Instant>,
        tick: &'a mut dyn FnMut() -> Result<()>,
    ) -> Self {
        Watch {
            until,
            tick: Some(tick),
        }
    }

    /// Returns the same bounds, but ending after `limit` at the latest.
    pub(super) fn within(&mut self, limit: Duration) -> Watch<'_> {
        Watch {
            until: Some(Instant::now() + self.left(limit)),
            tick: match &mut self.tick {
                Some(tick) => Some(&mut **tick),
                None => None,
            },
        }
    }

    /// Fails with [`Failure::Stopped`] or [`Failure::Late`] when the wait has to end.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        self.check_stop()?;
        match self.until {
            Some(until) if Instant::now() >= until => Err(Failure::Late),
            _ => Ok(()),
        }
    }

    fn check_stop(&mut self) -> Result<(), Failure> {
        interrupt::check().map_err(Failure::Stopped)?;
        match &mut self.tick {
            Some(tick) => tick().map_err(Failure::Stopped),
            None => Ok(()),
        }
    }

    /// Returns the time that is left, at most `most`.
    pub(super) fn left(&self, most: Duration) -> Duration {
        self.until.map_or(most, |until| {
            most.min(until.saturating_duration_since(Instant::now()))
        })
    }
}

/// Polls once; a signal counts as nothing ready.
pub(super) fn poll_once(fds: &mut [PollFd<'_>], timeout: Duration) -> Result<(), Failure> {
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    match poll(fds, Some(&timeout)) {
        Ok(_) => Ok(()),
        Err(rustix::io::Errno::INTR) => {
            for fd in fds {
                fd.clear_revents();
            }
            Ok(())
        }
        Err(e) => Err(e.into()),
    }
}

/// An SSH session and the socket under it.
pub(super) struct Link {
    session: Session,
    socket: Arc<TcpStream>,
    guard: Guard,
    next_keepalive: Instant,
    unanswered: u32,
}

impl Link {
    /// Takes a connected socket; nothing has been said on it yet.
    pub(super) fn new(socket: TcpStream) -> Result<Link, Failure> {
        let socket = Arc::new(socket);
        let guard = Guard::new(&socket)?;
        let mut session = Session::new()?;
        session.set_blocking(false);
        session.set_tcp_stream(Arc::clone(&socket));
        // libssh2 sends nothing that comes earlier than its own interval, so that one is shorter.
        session.set_keepalive(true, 5);
        Ok(Link {
            session,
            socket,
            guard,
            next_keepalive: Instant::now() + KEEPALIVE,
            unanswered: 0,
        })
    }

    /// Returns the session, for calls that do no input or output.
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Tries an operation; returns `None` when it has to wait for data from the node.
    pub(super) fn attempt<T, E: Into<Failure>>(
        &mut self,
        watch: &mut Watch<'_>,
        op: &mut dyn FnMut(&mut Session) -> Result<T, E>,
    ) -> Result<Option<T>, Failure> {
        loop {
            let session = &mut self.session;
            match self.guard.during(|| op(session)) {
                Ok(value) => return Ok(Some(value)),
                Err(e) => match e.into() {
                    Failure::Blocked => {}
                    _ if self.guard.has_cut() => {
                        watch.check_stop()?;
                        return Err(Failure::Flooded);
                    }
                    failure => return Err(failure),
                },
            }
            if !self.half_sent() {
                return Ok(None);
            }
            watch.check()?;
            let mut fds = [PollFd::new(&*self.socket, PollFlags::OUT)];
            poll_once(&mut fds, watch.left(SLICE))?;
        }
    }

    /// Repeats an operation until it is complete.
    pub(super) fn complete<T, E: Into<Failure>>(
        &mut self,
        watch: &mut Watch<'_>,
        op: &mut dyn FnMut(&mut Session) -> Result<T, E>,
    ) -> Result<T, Failure> {
        loop {
            if let Some(value) = self.attempt(watch, op)? {
                return Ok(value);
            }
            self.wait(watch)?;
        }
    }

    /// Waits until the node sends something, at most one slice; asks the watch.
    pub(super) fn wait(&mut self, watch: &mut Watch<'_>) -> Result<(), Failure> {
        self.wait_with(watch, true, false, &[]).map(drop)
    }

    /// Does what [`Link::wait`] does, but also ends when one of `others` is ready, and returns what each
    /// is ready for.
    ///
    /// With `listen` false nothing that the node sends ends the wait: the caller has no room for it.
    /// With `peek` it only looks what is ready and does not wait.
    pub(super) fn wait_with(
        &mut self,
        watch: &mut Watch<'_>,
        listen: bool,
        peek: bool,
        others: &[PollFd<'_>],
    ) -> Result<Vec<PollFlags>, Failure> {
        watch.check()?;
        let socket = Arc::clone(&self.socket);
        // Answers that are not read must not count as missing.
        let keepalive_due =
            listen && self.session.authenticated() && Instant::now() >= self.next_keepalive;
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, listen);
        flags.set(PollFlags::OUT, keepalive_due);
        let mut fds = others.to_vec();
        fds.push(PollFd::from_borrowed_fd(socket.as_fd(), flags));
        poll_once(
            &mut fds,
            if peek {
                Duration::ZERO
            } else {
                watch.left(SLICE)
            },
        )?;
        let mut ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        let node = ready.pop().unwrap_or(PollFlags::empty());
        if node.contains(PollFlags::IN) {
            self.unanswered = 0;
            self.next_keepalive = Instant::now() + KEEPALIVE;
        } else if keepalive_due && node.contains(PollFlags::OUT) {
            // Only on a writable socket: the library forgets a keepalive that was sent in part.
            self.send_keepalive()?;
        }
        Ok(ready)
    }

    fn send_keepalive(&mut self) -> Result<(), Failure> {
        if self.unanswered >= KEEPALIVES_LOST {
            return Err(Failure::Silent);
        }
        self.session.keepalive_send()?;
        self.unanswered += 1;
        self.next_keepalive = Instant::now() + KEEPALIVE;
        Ok(())
    }

    /// Returns whether part of a packet waits to be written.
    fn half_sent(&self) -> bool {
        matches!(
            self.session.block_directions(),
            BlockDirections::Outbound | BlockDirections::Both
        )
    }

    /// Opens a channel for one command or shell. A connection on which that fails is of no more use.
    pub(super) fn open(mut self, watch: &mut Watch<'_>) -> Result<(Link, Channel), Failure> {
        let channel = self.complete(watch, &mut |session| session.channel_session())?;
        Ok((self, channel))
    }

    /// Reads what there is of a channel's stream (0 is stdout, 1 stderr). Returns 0 when there is nothing
    /// now; the channel's `eof` says whether there will be more.
    pub(super) fn read(
        &mut self,
        watch: &mut Watch<'_>,
        channel: &Channel,
        stream: i32,
        buffer: &mut [u8],
    ) -> Result<usize, Failure> {
        let mut source = channel.stream(stream);
        let got = self.attempt(watch, &mut |_| std::io::Read::read(&mut source, buffer))?;
        Ok(got.unwrap_or(0))
    }

    /// Writes as much as the node takes now to a channel's standard input.
    pub(super) fn write(
        &mut self,
        watch: &mut Watch<'_>,
        channel: &Channel,
        data: &[u8],
    ) -> Result<usize, Failure> {
        let mut sink = channel.stream(0);
        let put = self.attempt(watch, &mut |_| std::io::Write::write(&mut sink, data))?;
        Ok(put.unwrap_or(0))
    }

    /// Ends a channel whose streams are at their end and returns the command's status.
    pub(super) fn finish(
        &mut self,
        watch: &mut Watch<'_>,
        channel: &mut Channel,
    ) -> Result<i32, Failure> {
        self.complete(watch, &mut |_| channel.wait_close())?;
        self.complete(watch, &mut |_| channel.close())?;
        let signal = channel.exit_signal()?.exit_signal;
        match signal {
            Some(name) => Ok(128 + signal_number(&name)),
            None => channel.exit_status().map_err(Failure::from),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // A courtesy to the server's log; if it does not fit into the socket, so be it.
        let _ = self.session.disconnect(None, "done", None);
    }
}

/// Returns the number of a signal by its name in the SSH protocol, which lacks the `SIG`. Servers name
/// others with a suffix; 128 + 127 says "some".
fn signal_number(name: &str) -> i32 {
    let is_named = |number: &i32| {
        let known = signal_hook::low_level::signal_name(*number);
        known.and_then(|known| known.strip_prefix("SIG")) == Some(name)
    };
    (1..32).find(is_named).unwrap_or(127)
}
