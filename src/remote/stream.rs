//! Commands and shells in the node that are connected to this process's own standard streams.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use ssh2::Channel;

use super::failure::Failure;
use super::link::{Link, Watch};
use super::ssh::{START, check_command};
use super::terminal::{self, RawTerminal};
use super::{Target, connect, shorten};
use crate::error::{Error, Result};

/// A pipe that polls as writable takes this much without blocking (`PIPE_BUF`).
const WRITE_SIZE: usize = 4096;

/// The most that is moved at once from a stream.
const READ_SIZE: usize = 32 * 1024;

/// The status that shells report for a program that a closed pipe ended: 128 + SIGPIPE.
const STATUS_PIPE_CLOSED: i32 = 141;

/// Runs a command with this process's standard input, output and error, and returns its exit
/// code (128 + n when signal n ended it).
///
/// With `tty` the command gets a terminal in the node; this process's own terminal, if it has
/// one, is in raw mode meanwhile. Returns 141 when standard output is closed early, as in
/// `kubby ssh -- journalctl | head -1`.
///
/// # Errors
/// [`Kind::NodeUnreachable`](crate::error::Kind::NodeUnreachable) when the node cannot be reached or the connection breaks,
/// [`Kind::Interrupted`](crate::error::Kind::Interrupted) on Ctrl-C (without `tty`) and other signals that end a process.
pub fn exec_streaming(target: &Target, command: &str, tty: bool) -> Result<i32> {
    check_command(command)?;
    attached(target, Some(command), tty)
}

/// Opens the user's shell in the node; returns its exit code.
///
/// With a terminal on standard input it is interactive: it has a terminal of the same size in
/// the node, and this one is in raw mode meanwhile. Otherwise the shell reads its commands from
/// standard input.
///
/// # Errors
/// As [`exec_streaming`].
pub fn shell(target: &Target) -> Result<i32> {
    attached(target, None, terminal::is_interactive())
}

/// Connects a socket of this host with a command in the node, until one of them ends.
///
/// # Errors
/// As [`exec_streaming`].
pub fn bridge(target: &Target, command: &str, socket: &UnixStream) -> Result<()> {
    check_command(command)?;
    let what = format!("`{}`", shorten(command));
    let lost = |failure: Failure| failure.lost_during(&what, target);
    // Data that is not written at once cannot hold up the other direction then.
    socket.set_nonblocking(true).map_err(|e| lost(e.into()))?;
    let nowhere = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/null")
        .map_err(|e| lost(e.into()))?;
    let link = connect::once(target, START)?;
    let (mut link, mut channel) = begin(link, Some(command), false).map_err(lost)?;
    let mut pump = Pump::new(socket.as_fd(), socket.as_fd(), nowhere.as_fd());
    pump.run(&mut link, &mut Watch::default(), &mut channel, None)
        .map(drop)
        .map_err(lost)
}

fn attached(target: &Target, command: Option<&str>, tty: bool) -> Result<i32> {
    let what = command.map_or("the shell".to_owned(), |c| format!("`{}`", shorten(c)));
    let lost = |failure: Failure| failure.lost_during(&what, target);
    let link = connect::once(target, START)?;
    let (mut link, mut channel) = begin(link, command, tty).map_err(lost)?;
    // Raw only now, so that Ctrl-C ends a connection attempt as usual.
    let raw = (tty && terminal::is_interactive())
        .then(RawTerminal::enter)
        .transpose()?;
    let mut tick = || raw.as_ref().map_or(Ok(()), RawTerminal::check);
    let mut watch = Watch::with_tick(None, &mut tick);
    let mut pump = Pump::new(
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    );
    match pump
        .run(&mut link, &mut watch, &mut channel, raw.as_ref())
        .map_err(lost)?
    {
        Ended::Remotely => link.finish(&mut watch, &mut channel).map_err(lost),
        Ended::OutputClosed => Ok(STATUS_PIPE_CLOSED),
    }
}

fn begin(link: Link, command: Option<&str>, tty: bool) -> Result<(Link, Channel), Failure> {
    let mut watch = Watch::limit(START);
    let (mut link, mut channel) = link.open(&mut watch)?;
    if tty {
        let term = std::env::var("TERM").unwrap_or_else(|_| "xterm-256color".into());
        let (columns, rows) = terminal::size();
        link.complete(&mut watch, &mut |_| {
            channel.request_pty(&term, None, Some((columns, rows, 0, 0)))
        })?;
        send_locale(&mut link, &mut watch, &mut channel)?;
    }
    link.complete(&mut watch, &mut |_| match command {
        Some(command) => channel.exec(command),
        None => channel.shell(),
    })?;
    Ok((link, channel))
}

/// Offers the locale's variables; a server that does not want them says no, which is fine.
fn send_locale(
    link: &mut Link,
    watch: &mut Watch<'_>,
    channel: &mut Channel,
) -> Result<(), Failure> {
    for (name, value) in std::env::vars() {
        if name != "LANG" && !name.starts_with("LC_") {
            continue;
        }
        match link.complete(watch, &mut |_| channel.setenv(&name, &value)) {
            Ok(()) | Err(Failure::Ssh(_)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// The reason why the pump stopped.
enum Ended {
    /// The node has sent everything.
    Remotely,
    /// This process's standard output is not read any more.
    OutputClosed,
}

/// One of this process's outputs and what waits to be written to it.
struct Outlet<'a> {
    stream: i32,
    fd: BorrowedFd<'a>,
    buffer: Vec<u8>,
    closed: bool,
}

impl<'a> Outlet<'a> {
    fn new(stream: i32, fd: BorrowedFd<'a>) -> Self {
        Outlet {
            stream,
            fd,
            buffer: Vec::new(),
            closed: false,
        }
    }

    /// Takes what the node has sent, if everything before is written. Returns the bytes taken.
    fn fill(
        &mut self,
        link: &mut Link,
        watch: &mut Watch<'_>,
        channel: &Channel,
    ) -> Result<usize, Failure> {
        if !self.buffer.is_empty() {
            return Ok(0);
        }
        self.buffer.resize(READ_SIZE, 0);
        let got = link.read(watch, channel, self.stream, &mut self.buffer);
        self.buffer.truncate(*got.as_ref().unwrap_or(&0));
        if self.closed {
            self.buffer.clear();
        }
        got
    }

    /// Writes a piece; called when the file polls as writable.
    fn write(&mut self) -> Result<(), Failure> {
        let piece = self.buffer.len().min(WRITE_SIZE);
        match rustix::io::write(self.fd, &self.buffer[..piece]) {
            Ok(n) => drop(self.buffer.drain(..n)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The reader is gone; what still comes is dropped.
            Err(Errno::PIPE | Errno::BADF | Errno::IO) => {
                self.closed = true;
                self.buffer.clear();
            }
            Err(e) => {
                return Err(Failure::Stopped(
                    Error::internal("cannot write the command's output").with_source(e),
                ));
            }
        }
        Ok(())
    }
}

/// Moves bytes between this process's files (its standard streams, a socket) and a channel. Nothing in it waits for
/// one stream alone, so a full pipe on one side never stalls another.
struct Pump<'a> {
    source: BorrowedFd<'a>,
    input: Vec<u8>,
    input_open: bool,
    eof_sent: bool,
    out: Outlet<'a>,
    err: Outlet<'a>,
}

impl<'a> Pump<'a> {
    fn new(source: BorrowedFd<'a>, out: BorrowedFd<'a>, err: BorrowedFd<'a>) -> Self {
        Pump {
            source,
            input: Vec::new(),
            input_open: true,
            eof_sent: false,
            out: Outlet::new(0, out),
            err: Outlet::new(1, err),
        }
    }

    fn run(
        &mut self,
        link: &mut Link,
        watch: &mut Watch<'_>,
        channel: &mut Channel,
        raw: Option<&RawTerminal>,
    ) -> Result<Ended, Failure> {
        loop {
            let mut moved = self.out.fill(link, watch, channel)?;
            moved += self.err.fill(link, watch, channel)?;
            if self.out.buffer.is_empty() && self.err.buffer.is_empty() && channel.eof() {
                return Ok(Ended::Remotely);
            }
            moved += self.send(link, watch, channel)?;
            if let Some((columns, rows)) = raw.and_then(RawTerminal::new_size) {
                link.complete(watch, &mut |_| {
                    channel.request_pty_size(columns, rows, None, None)
                })?;
            }
            // Data for a closed output is dropped as it comes, so there may be more at once.
            let again = moved > 0 && self.out.buffer.is_empty() && self.err.buffer.is_empty();
            self.turn(link, watch, again)?;
            if self.out.closed {
                return Ok(Ended::OutputClosed);
            }
        }
    }

    /// Passes input on to the node, and its end.
    fn send(
        &mut self,
        link: &mut Link,
        watch: &mut Watch<'_>,
        channel: &mut Channel,
    ) -> Result<usize, Failure> {
        if channel.eof() {
            // The command has ended and does not read what was typed since.
            self.input_open = false;
            self.input.clear();
            return Ok(0);
        }
        let before = self.input.len();
        while !self.input.is_empty() {
            match link.write(watch, channel, &self.input)? {
                0 => return Ok(before - self.input.len()),
                n => drop(self.input.drain(..n)),
            }
        }
        if !self.input_open && !self.eof_sent {
            link.complete(watch, &mut |_| channel.send_eof())?;
            self.eof_sent = true;
        }
        Ok(before)
    }

    /// Waits for anything to become possible (not at all with `again`), then reads input and
    /// writes outputs.
    fn turn(&mut self, link: &mut Link, watch: &mut Watch<'_>, again: bool) -> Result<(), Failure> {
        let listen = self.out.buffer.is_empty() || self.err.buffer.is_empty();
        let wants_input = self.input_open && self.input.is_empty();
        let source = self.source;
        let mut fds = Vec::with_capacity(3);
        if wants_input {
            fds.push(PollFd::from_borrowed_fd(source, PollFlags::IN));
        }
        for outlet in [&self.out, &self.err] {
            if !outlet.buffer.is_empty() {
                fds.push(PollFd::from_borrowed_fd(outlet.fd, PollFlags::OUT));
            }
        }
        let ready = link.wait_with(watch, listen, again, &fds)?;
        let mut ready = ready.into_iter().map(|flags| !flags.is_empty());
        let input_ready = wants_input && ready.next() == Some(true);
        for outlet in [&mut self.out, &mut self.err] {
            if !outlet.buffer.is_empty() && ready.next() == Some(true) {
                outlet.write()?;
            }
        }
        if input_ready {
            self.receive();
        }
        Ok(())
    }

    /// Reads what there is on standard input; called when it polls as readable.
    fn receive(&mut self) {
        self.input.resize(READ_SIZE, 0);
        let got = match rustix::io::read(self.source, &mut self.input) {
            Err(Errno::AGAIN | Errno::INTR) => 0,
            // A terminal that was hung up gives EIO: for the command that is the end of input.
            Ok(0) | Err(_) => {
                self.input_open = false;
                0
            }
            Ok(n) => n,
        };
        self.input.truncate(got);
    }
}
