//! Reaching the node over SSH: commands, files and shells. The only user of the `ssh2` crate.
//!
//! Provisioning talks to the [`Remote`] trait, so that it can be tested without a node; [`Ssh`]
//! is the real thing. The interactive side (`kubby ssh`) is [`exec_streaming`] and [`shell`].

mod connect;
mod failure;
mod files;
mod guard;
mod keys;
mod link;
mod process;
mod quote;
mod running;
mod ssh;
mod stream;
mod terminal;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};

pub use files::NodeFile;
pub use keys::generate_key;
pub use process::Process;
pub(crate) use quote::{join, quote};
pub use ssh::Ssh;
pub use stream::{bridge, exec_streaming, shell};

/// The number of a failed command's last lines that an error shows.
const TAIL_LINES: usize = 20;

/// The number of characters of each that it shows.
const LINE_SHOWN: usize = 500;

/// The number of characters of a command that an error shows.
const COMMAND_SHOWN: usize = 120;

/// The address of the node, and the keys of both sides.
#[derive(Debug, Clone)]
pub struct Target {
    /// Host name or address, `127.0.0.1` for a node on the user network.
    pub host: String,
    /// TCP port of the node's SSH server as seen from this host.
    pub port: u16,
    /// The user to log in as.
    pub user: String,
    /// File with the private key, OpenSSH format without a passphrase.
    pub private_key: PathBuf,
    /// The server's public key as an OpenSSH line (`ssh-ed25519 AAAA…`); no other is accepted.
    pub host_key: String,
}

impl Target {
    /// Returns host and port as `127.0.0.1:2222`, for messages.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// The result of a command in the node.
#[derive(Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit code, or 128 + signal number when a signal ended the command.
    pub status: i32,
    /// All it wrote to standard output.
    pub stdout: Vec<u8>,
    /// All it wrote to standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Returns whether the command ended with status 0.
    pub fn success(&self) -> bool {
        self.status == 0
    }

    /// Returns standard output as text, without white space at its end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// Passes the output on if the command ended with status 0; `what` names it in the error.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`](crate::error::Kind::Unhealthy) with the last lines of standard error for any other status.
    pub fn require(self, what: &str) -> Result<Output> {
        if self.success() {
            return Ok(self);
        }
        let message = format!("{what} failed in the node with status {}", self.status);
        Err(Error::unhealthy(message)
            .with_detail("its last output", tail(&self.stderr))
            .with_hint("look around in the node: kubby ssh -- journalctl -b -p warning --no-pager"))
    }
}

/// Standard output may hold secrets (`cat admin.conf`), so only its size is shown.
impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("status", &self.status)
            .field("stdout", &format_args!("{} bytes", self.stdout.len()))
            .field("stderr", &tail(&self.stderr))
            .finish()
    }
}

/// A node that runs commands and takes files.
pub trait Remote: Send {
    /// Runs a shell command with `stdin` as its standard input, to its end.
    ///
    /// A status other than 0 is not an error here, see [`Output::require`]. `limit` bounds the
    /// whole call; without one the implementation's default holds.
    ///
    /// # Errors
    /// [`Kind::NodeUnreachable`](crate::error::Kind::NodeUnreachable) when the connection cannot be made or breaks,
    /// [`Kind::Unhealthy`](crate::error::Kind::Unhealthy) when the command does not end within the limit,
    /// [`Kind::Interrupted`](crate::error::Kind::Interrupted) on Ctrl-C.
    fn exec(&mut self, command: &str, stdin: &[u8], limit: Option<Duration>) -> Result<Output>;

    /// Connects to another target, with other keys, when the connection has to be made again: the node is
    /// about to get them.
    fn set_target(&mut self, _target: &Target) {}

    /// Runs a command without input.
    ///
    /// # Errors
    /// As [`Remote::exec`].
    fn run(&mut self, command: &str) -> Result<Output> {
        self.exec(command, &[], None)
    }

    /// Runs a command that reads `stdin`; secrets go in this way, never in the command.
    ///
    /// # Errors
    /// As [`Remote::exec`].
    fn run_with_input(&mut self, command: &str, stdin: &[u8]) -> Result<Output> {
        self.exec(command, stdin, None)
    }

    /// Writes files into the node, each atomically: a reader sees the old content or the new.
    ///
    /// Missing parents are made with mode 0755. A symbolic link at a file's path is replaced.
    ///
    /// # Errors
    /// As [`Remote::exec`], [`Kind::Unhealthy`](crate::error::Kind::Unhealthy) when the node cannot write them, and
    /// [`Kind::Internal`](crate::error::Kind::Internal) for paths that are not absolute, hold `..` or occur twice.
    fn push(&mut self, files: &[NodeFile]) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let push = files::push(files)?;
        let output = self.run_with_input(&push.command, &push.input)?;
        output.require(&push.what).map(drop)
    }

    /// Compares files with those in the node by one command, and returns (by index) those that are
    /// missing or differ in kind, mode or content. A symbolic link counts as different, whatever it
    /// leads to. A file at a path of `optional` that is to be empty may be missing.
    ///
    /// # Errors
    /// As [`Remote::exec`]; [`Kind::Internal`](crate::error::Kind::Internal) for paths that [`Remote::push`] refuses as well.
    fn changed(&mut self, files: &[NodeFile], optional: &[&str]) -> Result<Vec<usize>> {
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let script = files::state_script(files)?;
        let output = self.run_with_input("sh -s", script.as_bytes())?;
        let output = output.require("comparing files")?;
        Ok(files::differing(files, optional, &output.stdout))
    }
}

/// Returns the first line of a command, cut to what fits an error message.
fn shorten(command: &str) -> String {
    let first = command.lines().next().unwrap_or_default();
    if first.len() == command.len() && command.chars().count() <= COMMAND_SHOWN {
        return command.to_owned();
    }
    let mut text: String = first.chars().take(COMMAND_SHOWN).collect();
    text.push('…');
    text
}

/// Returns the last lines of an output, each cut to what can be read.
fn tail(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let last = lines[lines.len().saturating_sub(TAIL_LINES)..].iter();
    let cut = |line: &&str| match line.char_indices().nth(LINE_SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => (*line).to_owned(),
    };
    last.map(cut).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn commands_are_shortened_to_one_line() {
        assert_eq!(shorten("uname -r"), "uname -r");
        assert_eq!(shorten("set -e\nrm x"), "set -e…");
        assert_eq!(
            shorten(&"ä".repeat(COMMAND_SHOWN)),
            "ä".repeat(COMMAND_SHOWN)
        );
        assert_eq!(shorten(&"ä".repeat(500)).chars().count(), COMMAND_SHOWN + 1);
    }

    #[test]
    fn the_tail_is_the_end() {
        let text: String = (0..50).map(|n| format!("line {n}\n")).collect();
        let tail = tail(text.as_bytes());
        assert!(
            tail.starts_with("line 30\n") && tail.ends_with("line 49"),
            "{tail}"
        );
    }

    #[test]
    fn a_failed_command_shows_stderr_and_never_stdout() {
        let output = Output {
            status: 3,
            stdout: b"password".into(),
            stderr: b"no such unit\n".into(),
        };
        assert!(!format!("{output:?}").contains("password"));
        let e = output.require("`systemctl start x`").unwrap_err();
        assert_eq!(e.kind(), Kind::Unhealthy);
        assert!(e.message().contains("status 3"), "{e}");
        assert_eq!(e.details()[0].1, "no such unit");
    }
}
