//! What a check says.

use std::path::Path;

use serde::Serialize;

use super::repair::Repair;
use crate::error::Error;
use crate::remote;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Not looked at; the reason says why.
    Skipped,
    /// Clusters run, but something is not as it should be or soon will not be.
    Warning,
    /// A cluster does not run, cannot be made, or is open to others.
    Failure,
}

impl State {
    /// The word that people and programs read.
    pub fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Skipped => "skipped",
            State::Warning => "warning",
            State::Failure => "failure",
        }
    }
}

/// The outcome of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check's name, which is the same in every release.
    pub name: &'static str,
    /// How bad it is.
    pub state: State,
    /// What was found, and why that matters.
    pub reason: String,
    /// The command to type or the thing to change; nothing where nothing is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Whether `--fix` does it.
    pub fixable: bool,
    /// What `--fix` does.
    #[serde(skip)]
    pub(super) repair: Option<Repair>,
}

impl Finding {
    fn new(name: &'static str, state: State, reason: impl Into<String>) -> Self {
        Finding {
            name,
            state,
            reason: reason.into(),
            remedy: None,
            fixable: false,
            repair: None,
        }
    }

    pub(super) fn ok(name: &'static str, reason: impl Into<String>) -> Self {
        Finding::new(name, State::Ok, reason)
    }

    pub(super) fn skipped(name: &'static str, reason: impl Into<String>) -> Self {
        Finding::new(name, State::Skipped, reason)
    }

    pub(super) fn warning(
        name: &'static str,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Finding {
            remedy: Some(remedy.into()),
            ..Finding::new(name, State::Warning, reason)
        }
    }

    pub(super) fn failure(
        name: &'static str,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Finding {
            remedy: Some(remedy.into()),
            ..Finding::new(name, State::Failure, reason)
        }
    }

    /// A failure with an error's message, causes and first hint.
    pub(super) fn of_error(name: &'static str, error: &Error, otherwise: &str) -> Self {
        let remedy = error.hints().first().map_or(otherwise, String::as_str);
        Finding::failure(name, explain(error), remedy)
    }

    /// Says that `--fix` can do this about it.
    pub(super) fn with(mut self, repair: Repair) -> Self {
        self.fixable = true;
        self.repair = Some(repair);
        self
    }
}

/// An error in one line.
pub(super) fn explain(error: &Error) -> String {
    let mut text = error.message().to_owned();
    for cause in error.causes() {
        text.push_str(": ");
        text.push_str(cause.trim());
    }
    text.replace('\n', " ")
}

/// A path as a command in a remedy names it.
pub(super) fn quoted(path: &Path) -> String {
    remote::quote(&path.to_string_lossy())
}

/// The worst of all states; ok where there is no finding.
pub(super) fn worst(findings: &[Finding]) -> State {
    let states = findings.iter().map(|f| f.state);
    states.max().unwrap_or(State::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn the_worst_counts() {
        assert_eq!(worst(&[]), State::Ok);
        let ok = Finding::ok("a", "");
        let skipped = Finding::skipped("a", "");
        let warning = Finding::warning("b", "", "");
        assert_eq!(worst(&[ok, warning, skipped]), State::Warning);
    }

    #[test]
    fn errors_are_told_in_one_line_with_their_first_hint() {
        let error = Error::new(Kind::Preflight, "cannot connect")
            .with_source("no\nsuch file")
            .with_hint("start it");
        let finding = Finding::of_error("libvirt", &error, "-");
        assert_eq!(finding.reason, "cannot connect: no such file");
        assert_eq!(finding.remedy.as_deref(), Some("start it"));
        let plain = Error::new(Kind::Internal, "x");
        let finding = Finding::of_error("libvirt", &plain, "do");
        assert_eq!(finding.remedy.as_deref(), Some("do"));
    }

    #[test]
    fn the_repair_is_not_told_but_that_there_is_one() {
        let finding = Finding::warning("x", "why", "how").with(Repair::Restrict(vec![]));
        assert_eq!(
            serde_json::to_string(&finding).unwrap(),
            r#"{"name":"x","state":"warning","reason":"why","remedy":"how","fixable":true}"#
        );
    }
}
