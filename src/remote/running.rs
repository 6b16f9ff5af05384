//! A running command in the node: its input, its outputs, its end.

use ssh2::Channel;

use super::Output;
use super::failure::Failure;
use super::link::{Link, Watch};
use crate::error::Error;

/// The most bytes that are kept of an output that is kept whole: they are in memory, and a node
/// may write without end.
const WHOLE_MOST: usize = 64 << 20;

/// The number of bytes that are kept of the end of an output.
const END_KEPT: usize = 64 * 1024;

/// The part of a command's outputs that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// All; it is an error when that is too much.
    Whole,
    /// The end.
    End,
}

/// A command that runs on a channel, with the connection that it has for itself.
pub(super) struct Running {
    link: Link,
    channel: Channel,
    keep: Keep,
    stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

impl Running {
    pub(super) fn new(link: Link, channel: Channel, keep: Keep) -> Self {
        Running {
            link,
            channel,
            keep,
            stdout: Vec::new(),
            stderr: Vec::new(),
        }
    }

    /// Writes all of `data` to the command's input, and takes its outputs meanwhile: neither can fill
    /// up while the other waits for it. Returns false when the command has ended and reads no more.
    pub(super) fn write(&mut self, watch: &mut Watch<'_>, data: &[u8]) -> Result<bool, Failure> {
        let mut sent = 0;
        while sent < data.len() {
            let taken = self.take(watch, 0)? + self.take(watch, 1)?;
            if self.channel.eof() {
                return Ok(false);
            }
            let n = self.link.write(watch, &self.channel, &data[sent..])?;
            sent += n;
            self.pause(watch, taken + n)?;
        }
        Ok(true)
    }

    /// Reads some of the command's standard output; returns 0 at its end.
    pub(super) fn read(
        &mut self,
        watch: &mut Watch<'_>,
        buffer: &mut [u8],
    ) -> Result<usize, Failure> {
        loop {
            let n = self.link.read(watch, &self.channel, 0, buffer)?;
            let errors = self.take(watch, 1)?;
            if n > 0 {
                watch.check()?;
                return Ok(n);
            }
            if self.channel.eof() {
                return Ok(0);
            }
            self.pause(watch, errors)?;
        }
    }

    /// Ends the command's input, takes its outputs to their end and returns its status.
    pub(super) fn finish(&mut self, watch: &mut Watch<'_>) -> Result<i32, Failure> {
        if !self.channel.eof() {
            let channel = &mut self.channel;
            self.link.complete(watch, &mut |_| channel.send_eof())?;
        }
        loop {
            let taken = self.take(watch, 0)? + self.take(watch, 1)?;
            if self.channel.eof() {
                return self.link.finish(watch, &mut self.channel);
            }
            self.pause(watch, taken)?;
        }
    }

    /// Returns what the ended command left behind, and the connection.
    pub(super) fn into_output(self, status: i32) -> (Output, Link) {
        let output = Output {
            status,
            stdout: self.stdout,
            stderr: self.stderr,
        };
        (output, self.link)
    }

    /// Waits for the node where nothing could be moved.
    fn pause(&mut self, watch: &mut Watch<'_>, moved: usize) -> Result<(), Failure> {
        match moved {
            0 => self.link.wait(watch),
            _ => watch.check(),
        }
    }

    /// Takes what there is now of an output (0 is stdout, 1 stderr); returns how much.
    fn take(&mut self, watch: &mut Watch<'_>, stream: i32) -> Result<usize, Failure> {
        let mut buffer = [0; 32 * 1024];
        let n = self.link.read(watch, &self.channel, stream, &mut buffer)?;
        let kept = match stream {
            0 => &mut self.stdout,
            _ => &mut self.stderr,
        };
        kept.extend_from_slice(&buffer[..n]);
        match self.keep {
            Keep::Whole if kept.len() > WHOLE_MOST => return Err(Failure::Stopped(too_much())),
            Keep::End if kept.len() > 2 * END_KEPT => drop(kept.drain(..kept.len() - END_KEPT)),
            _ => {}
        }
        Ok(n)
    }
}

fn too_much() -> Error {
    let most = WHOLE_MOST >> 20;
    Error::unhealthy(format!("a command in the node wrote more than {most} MiB"))
        .with_hint("look around in the node: kubby ssh")
}
