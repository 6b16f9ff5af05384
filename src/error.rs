//! The one error type of kubby: what failed, on what, why, and the next command to type.
//!
//! Every error carries a [`Kind`], and the kind alone decides the exit code, so scripts can
//! distinguish classes of failure without reading text.

use std::error::Error as StdError;
use std::fmt;

use serde::Serialize;

/// A class of failure, with its documented exit code. Its name in JSON output is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Kind {
    /// A defect in kubby or a failure that fits no other class.
    Internal = 1,
    /// The command line, a flag's value or a profile name makes no sense.
    Usage = 2,
    /// The host cannot run a cluster as asked: something is missing, taken or too small.
    Preflight = 10,
    /// A node image or component could not be found, downloaded, verified or built.
    Assets = 11,
    /// libvirt or QEMU refused or failed.
    Hypervisor = 12,
    /// The virtual machine runs (or should), but it cannot be reached over SSH.
    NodeUnreachable = 13,
    /// The node is reached, but Kubernetes in it is not healthy.
    Unhealthy = 14,
    /// The named profile does not exist or is in a state that the command cannot work on.
    State = 15,
    /// The kubeconfig file could not be read or written.
    Kubeconfig = 16,
    /// The user asked kubby to stop (Ctrl-C or SIGTERM).
    Interrupted = 130,
}

impl Kind {
    /// Returns the process exit code of this class; these numbers are part of kubby's interface.
    pub fn exit_code(self) -> u8 {
        self as u8
    }
}

/// An error with its class, the captured output that explains it, and hints what to do next.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    message: String,
    /// Captured text that explains the failure: `(title, text)`, such as a console's last lines.
    details: Vec<(String, String)>,
    hints: Vec<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
    dead: bool,
}

/// The result type of every fallible function in kubby.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Returns an error of class `kind`; `message` says what failed and on what, in lower case.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            details: Vec::new(),
            hints: Vec::new(),
            source: None,
            dead: false,
        }))
    }

    /// Makes an error of class [`Kind::Usage`].
    pub fn usage(message: impl Into<String>) -> Self {
        Error::new(Kind::Usage, message)
    }

    /// Makes an error of class [`Kind::Assets`].
    pub fn assets(message: impl Into<String>) -> Self {
        Error::new(Kind::Assets, message)
    }

    /// Makes an error of class [`Kind::Unhealthy`].
    pub fn unhealthy(message: impl Into<String>) -> Self {
        Error::new(Kind::Unhealthy, message)
    }

    /// Makes an error of class [`Kind::Hypervisor`].
    pub fn hypervisor(message: impl Into<String>) -> Self {
        Error::new(Kind::Hypervisor, message)
    }

    /// Makes an error of class [`Kind::Preflight`].
    pub fn preflight(message: impl Into<String>) -> Self {
        Error::new(Kind::Preflight, message)
    }

    /// Makes an error of class [`Kind::NodeUnreachable`].
    pub fn unreachable(message: impl Into<String>) -> Self {
        Error::new(Kind::NodeUnreachable, message)
    }

    /// Makes an error of class [`Kind::Kubeconfig`].
    pub fn kubeconfig(message: impl Into<String>) -> Self {
        Error::new(Kind::Kubeconfig, message)
    }

    /// Makes an error of class [`Kind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Error::new(Kind::Internal, message)
    }

    /// Makes an error of class [`Kind::State`].
    pub fn state(message: impl Into<String>) -> Self {
        Error::new(Kind::State, message)
    }

    /// Says what the error is about, in front of its message.
    #[must_use]
    pub(crate) fn about(mut self, what: &str) -> Self {
        self.0.message = format!("{what}: {}", self.0.message);
        self
    }

    /// Adds the underlying cause; it is shown as a `caused by` line.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds captured output under a title; empty text adds nothing.
    #[must_use]
    pub fn with_detail(mut self, title: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let text = text.trim_end();
        if !text.is_empty() {
            self.0.details.push((title.into(), text.to_owned()));
        }
        self
    }

    /// Adds a text under a title as [`with_detail`](Self::with_detail), but before all others.
    #[must_use]
    pub fn with_first_detail(self, title: impl Into<String>, text: impl Into<String>) -> Self {
        let others = self.0.details.len();
        let mut error = self.with_detail(title, text);
        error.0.details.rotate_left(others);
        error
    }

    /// Adds a hint: the next command to type or the thing to change.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    /// Makes this the cause of an error of the same class with another message, which takes its details
    /// and hints.
    #[must_use]
    pub fn wrapped(mut self, message: impl Into<String>) -> Self {
        let mut outer = Error::new(self.kind(), message);
        outer.0.details = std::mem::take(&mut self.0.details);
        outer.0.hints = std::mem::take(&mut self.0.hints);
        outer.with_source(self)
    }

    /// Marks the virtual machine as dead: it does nothing any more until it is switched off and on.
    #[must_use]
    pub fn of_dead_machine(mut self) -> Self {
        self.0.dead = true;
        self
    }

    /// Returns whether only switching the machine off and on can help, see
    /// [`of_dead_machine`](Self::of_dead_machine).
    pub fn is_of_dead_machine(&self) -> bool {
        self.0.dead
    }

    /// Returns the class of this error.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Returns what failed, without causes, details and hints.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the captured outputs as `(title, text)`.
    pub fn details(&self) -> &[(String, String)] {
        &self.0.details
    }

    /// Returns what the user can do next.
    pub fn hints(&self) -> &[String] {
        &self.0.hints
    }

    /// Returns the chain of causes, nearest first.
    pub fn causes(&self) -> Vec<String> {
        std::iter::successors(self.source(), |cause| (**cause).source())
            .map(ToString::to_string)
            .collect()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|s| s.as_ref() as _)
    }
}

/// Turns foreign errors into [`Error`] with a class and a message that says on what.
pub trait ResultExt<T> {
    /// Wraps the error as the cause of a new one.
    ///
    /// # Errors
    /// Passes the wrapped error on.
    fn context(self, kind: Kind, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E> ResultExt<T> for std::result::Result<T, E>
where
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    fn context(self, kind: Kind, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::new(kind, message()).with_source(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_distinct_and_nonzero() {
        let all = [
            Kind::Internal,
            Kind::Usage,
            Kind::Preflight,
            Kind::Assets,
            Kind::Hypervisor,
            Kind::NodeUnreachable,
            Kind::Unhealthy,
            Kind::State,
            Kind::Kubeconfig,
            Kind::Interrupted,
        ];
        let mut codes = all.map(Kind::exit_code).to_vec();
        assert!(codes.iter().all(|c| *c != 0));
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), all.len());
    }

    #[test]
    fn causes_are_listed_nearest_first() {
        let inner = Error::new(Kind::Internal, "disk is full");
        let outer = Error::new(Kind::Assets, "cannot write the image").with_source(inner);
        let top = Error::new(Kind::Internal, "start failed").with_source(outer);
        assert_eq!(top.causes(), ["cannot write the image", "disk is full"]);
    }

    #[test]
    fn empty_details_are_dropped() {
        let e = Error::new(Kind::Internal, "x").with_detail("stderr", " \n");
        assert!(e.details().is_empty());
    }
}
