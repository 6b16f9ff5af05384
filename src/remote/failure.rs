//! The ways in which an operation on an SSH connection can fail.

use ssh2::ErrorCode;

use super::Target;
use crate::error::Error;

/// libssh2's code for "would block".
const EAGAIN: ErrorCode = ErrorCode::Session(-37);

/// The reason why an operation on the connection did not come to its end.
#[derive(Debug)]
pub(super) enum Failure {
    /// The operation would have to wait.
    Blocked,
    /// The deadline passed.
    Late,
    /// Ctrl-C, or the watch's function, stopped it.
    Stopped(Error),
    /// The node no longer answers, though the connection stands.
    Silent,
    /// The other side sends and sends, and nothing that it should.
    Flooded,
    /// The library reports an error: the connection broke or the server refused.
    Ssh(ssh2::Error),
    /// The operating system reports an error.
    Io(std::io::Error),
}

impl From<ssh2::Error> for Failure {
    fn from(e: ssh2::Error) -> Self {
        if e.code() == EAGAIN {
            Failure::Blocked
        } else {
            Failure::Ssh(e)
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        if e.kind() == std::io::ErrorKind::WouldBlock {
            Failure::Blocked
        } else {
            Failure::Io(e)
        }
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(e: rustix::io::Errno) -> Self {
        Failure::Io(e.into())
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Blocked | Failure::Late => f.write_str("no answer in time"),
            Failure::Stopped(e) => e.fmt(f),
            Failure::Silent => f.write_str("the node stopped answering"),
            Failure::Flooded => f.write_str("what answers sends without end, and not SSH"),
            Failure::Ssh(e) => f.write_str(e.message()),
            Failure::Io(e) => e.fmt(f),
        }
    }
}

impl Failure {
    /// Returns the error of a connection that was lost during `what`.
    pub(super) fn lost_during(self, what: &str, target: &Target) -> Error {
        if let Failure::Stopped(e) = self {
            return e;
        }
        Error::unreachable(format!(
            "the connection to the node on {} was lost during {what}",
            target.address()
        ))
        .with_source(self.to_string())
        .with_hint("see whether it runs: kubby status")
    }
}
