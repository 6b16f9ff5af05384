//! A command in the node whose input and output are the caller's, piece by piece: for data that
//! is too large to be held.

use super::failure::Failure;
use super::link::Watch;
use super::running::{Keep, Running};
use super::ssh::{START, Ssh};
use super::{Output, Target, shorten};
use crate::error::{Error, Result};

/// A running command in the node, on a connection that it has for itself.
pub struct Process {
    running: Running,
    what: String,
    target: Target,
}

impl Process {
    /// Starts a shell command on the connection that `ssh` has, which [`Process::finish`] gives back: a
    /// login costs an emulated node a second and more. The command ends with its input at the latest
    /// when this is dropped.
    ///
    /// # Errors
    /// [`crate::error::Kind::NodeUnreachable`] when the node cannot be reached, [`crate::error::Kind::Interrupted`] on Ctrl-C.
    pub fn start(ssh: &mut Ssh, command: &str) -> Result<Process> {
        let target = ssh.target().clone();
        let what = format!("`{}`", shorten(command));
        let running = ssh.start(&mut Watch::limit(START), command, Keep::End);
        let running = running.map_err(|f| f.lost_during(&what, &target))?;
        Ok(Process {
            running,
            what,
            target,
        })
    }

    /// Writes all of `data` to the command's standard input. Returns false when the command has
    /// ended and reads no more; [`Process::finish`] then says why.
    ///
    /// # Errors
    /// [`crate::error::Kind::NodeUnreachable`] when the connection breaks, [`crate::error::Kind::Interrupted`] on Ctrl-C.
    pub fn write(&mut self, data: &[u8]) -> Result<bool> {
        let written = self.running.write(&mut Watch::default(), data);
        written.map_err(|f| self.lost(f))
    }

    /// Reads some of the command's standard output; returns 0 at its end.
    ///
    /// # Errors
    /// As [`Process::write`].
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let read = self.running.read(&mut Watch::default(), buffer);
        read.map_err(|f| self.lost(f))
    }

    /// Ends the command's input, waits for its end and returns its status with the last 64 KiB of
    /// each output. `ssh` gets its connection back.
    ///
    /// # Errors
    /// As [`Process::write`].
    pub fn finish(mut self, ssh: &mut Ssh) -> Result<Output> {
        let status = self.running.finish(&mut Watch::default());
        let status = status.map_err(|f| self.lost(f))?;
        Ok(ssh.take_back(self.running, status))
    }

    fn lost(&self, failure: Failure) -> Error {
        failure.lost_during(&self.what, &self.target)
    }
}
