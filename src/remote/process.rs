//! A command in the node whose input and output are the caller's, piece by piece: for data that
//! is too large to be held.

use std::time::Instant;

use ssh2::Channel;

use super::link::{Failure, Link, Watch};
use super::ssh::{Ssh, check_command};
use super::stream::{START, lost};
use super::{Output, Target, shorten};
use crate::error::{Error, Result};
use crate::interrupt;

/// How much of the end of an output is kept.
const KEPT: usize = 64 * 1024;

/// A running command in the node, on a connection that nobody else uses meanwhile.
pub struct Process {
    link: Link,
    channel: Channel,
    what: String,
    target: Target,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Process {
    /// Starts a shell command on the connection that `ssh` has, which [`Process::finish`] gives back: a
    /// login costs an emulated node a second and more. It ends with its input at the latest when this
    /// is dropped.
    ///
    /// # Errors
    /// [`crate::error::Kind::NodeUnreachable`] when the node cannot be reached, [`crate::error::Kind::Interrupted`] on Ctrl-C.
    pub fn start(ssh: &mut Ssh, command: &str) -> Result<Process> {
        check_command(command)?;
        let target = ssh.target().clone();
        let mut watch = Watch {
            until: Some(Instant::now() + START),
            tick: &mut interrupt::check,
        };
        let what = format!("`{}`", shorten(command));
        let mut begin = || -> Result<(Link, Channel), Failure> {
            let (mut link, mut channel) = ssh.open(&mut watch)?;
            link.complete(&mut watch, &mut |_| channel.exec(command))?;
            Ok((link, channel))
        };
        let (link, channel) = begin().map_err(|f| lost(f, &target, &what))?;
        Ok(Process {
            link,
            channel,
            what,
            target,
            stdout: Vec::new(),
            stderr: Vec::new(),
        })
    }

    /// Writes all of `data` to the command's standard input. Returns false when the command has
    /// ended and reads no more; [`Process::finish`] then tells why.
    ///
    /// # Errors
    /// [`crate::error::Kind::NodeUnreachable`] when the connection breaks, [`crate::error::Kind::Interrupted`] on Ctrl-C.
    pub fn write(&mut self, data: &[u8]) -> Result<bool> {
        let mut tick = interrupt::check;
        let mut watch = forever(&mut tick);
        let mut sent = 0;
        while sent < data.len() {
            let result = self.drain(&mut watch).and_then(|_| {
                if self.channel.eof() {
                    return Ok(None);
                }
                let n = self.link.write(&mut watch, &self.channel, &data[sent..])?;
                if n == 0 {
                    self.link.wait(&mut watch)?;
                } else {
                    watch.check()?;
                }
                Ok(Some(n))
            });
            match result.map_err(|f| self.lost(f))? {
                Some(n) => sent += n,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Reads some of the command's standard output; 0 at its end.
    ///
    /// # Errors
    /// As [`Process::write`].
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut tick = interrupt::check;
        let mut watch = forever(&mut tick);
        let mut some = || -> Result<usize, Failure> {
            loop {
                let n = self.link.read(&mut watch, &self.channel, 0, buffer)?;
                let errors = keep(
                    &mut self.link,
                    &mut watch,
                    &self.channel,
                    1,
                    &mut self.stderr,
                )?;
                if n > 0 {
                    watch.check()?;
                    return Ok(n);
                }
                if self.channel.eof() {
                    return Ok(0);
                }
                if errors == 0 {
                    self.link.wait(&mut watch)?;
                }
            }
        };
        let got = some();
        got.map_err(|f| self.lost(f))
    }

    /// Ends the command's input, waits for its end and returns its status with the last 64 KiB of
    /// each output. `ssh` goes on with the connection.
    ///
    /// # Errors
    /// As [`Process::write`].
    pub fn finish(mut self, ssh: &mut Ssh) -> Result<Output> {
        let mut tick = interrupt::check;
        let mut watch = forever(&mut tick);
        let mut end = || -> Result<i32, Failure> {
            if !self.channel.eof() {
                self.link
                    .complete(&mut watch, &mut |_| self.channel.send_eof())?;
            }
            loop {
                let moved = self.drain(&mut watch)?;
                if self.channel.eof() {
                    break;
                }
                if moved == 0 {
                    self.link.wait(&mut watch)?;
                }
            }
            self.link.finish(&mut watch, &mut self.channel)
        };
        let status = end();
        let status = status.map_err(|f| self.lost(f))?;
        let output = Output {
            status,
            stdout: self.stdout,
            stderr: self.stderr,
        };
        ssh.take_back(self.link);
        Ok(output)
    }

    /// Takes what both outputs have now; returns how much.
    fn drain(&mut self, watch: &mut Watch<'_>) -> Result<usize, Failure> {
        let out = keep(&mut self.link, watch, &self.channel, 0, &mut self.stdout)?;
        let err = keep(&mut self.link, watch, &self.channel, 1, &mut self.stderr)?;
        Ok(out + err)
    }

    fn lost(&self, failure: Failure) -> Error {
        lost(failure, &self.target, &self.what)
    }
}

fn forever<'a>(tick: &'a mut dyn FnMut() -> Result<()>) -> Watch<'a> {
    Watch { until: None, tick }
}

/// Takes what a stream has now and keeps the end of it.
fn keep(
    link: &mut Link,
    watch: &mut Watch<'_>,
    channel: &Channel,
    stream: i32,
    kept: &mut Vec<u8>,
) -> Result<usize, Failure> {
    let mut buffer = [0; 8192];
    let n = link.read(watch, channel, stream, &mut buffer)?;
    kept.extend_from_slice(&buffer[..n]);
    if kept.len() > 2 * KEPT {
        kept.drain(..kept.len() - KEPT);
    }
    Ok(n)
}
