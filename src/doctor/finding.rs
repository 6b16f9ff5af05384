//! The outcome of a check.

use serde::Serialize;

use super::repair::Repair;
use crate::error::Error;

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// As it should be.
    Ok,
    /// Not checked; the reason says why.
    Skipped,
    /// Clusters run, but something is not as it should be or soon will not be.
    Warning,
    /// A cluster does not run, cannot be made, or is open to others.
    Failure,
}

/// The outcome of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The check's name.
    pub name: &'static str,
    /// The severity.
    pub state: State,
    /// The fact that was found, and why it matters.
    pub reason: String,
    /// The command to type or the thing to change; `None` where nothing is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Whether `--fix` repairs it.
    pub fixable: bool,
    /// The repair that `--fix` applies.
    #[serde(skip)]
    pub(super) repair: Option<Repair>,
}

impl Finding {
    /// Makes a finding of the check that is running, whose name [`super::diagnose`] adds.
    fn new(state: State, reason: impl Into<String>, remedy: Option<String>) -> Self {
        Finding {
            name: "",
            state,
            reason: reason.into(),
            remedy,
            fixable: false,
            repair: None,
        }
    }

    pub(super) fn ok(reason: impl Into<String>) -> Self {
        Finding::new(State::Ok, reason, None)
    }

    pub(super) fn skipped(reason: impl Into<String>) -> Self {
        Finding::new(State::Skipped, reason, None)
    }

    pub(super) fn warning(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding::new(State::Warning, reason, Some(remedy.into()))
    }

    pub(super) fn failure(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding::new(State::Failure, reason, Some(remedy.into()))
    }

    /// Makes a failure of an error's message, causes and first hint.
    pub(super) fn of_error(error: &Error, otherwise: &str) -> Self {
        let remedy = error.hints().first().map_or(otherwise, String::as_str);
        Finding::failure(explain(error), remedy)
    }

    /// Offers a repair to `--fix`.
    pub(super) fn with(mut self, repair: Repair) -> Self {
        self.fixable = true;
        self.repair = Some(repair);
        self
    }
}

/// Returns an error with its causes in one line.
pub(super) fn explain(error: &Error) -> String {
    let mut text = error.message().to_owned();
    for cause in error.causes() {
        text.push_str(": ");
        text.push_str(cause.trim());
    }
    text.replace('\n', " ")
}

/// Returns the findings, or `otherwise` where there is none.
pub(super) fn or(found: impl IntoIterator<Item = Finding>, otherwise: Finding) -> Vec<Finding> {
    let mut found: Vec<Finding> = found.into_iter().collect();
    if found.is_empty() {
        found.push(otherwise);
    }
    found
}

/// Returns the worst of all states; ok where there is no finding.
pub(super) fn worst(findings: &[Finding]) -> State {
    let states = findings.iter().map(|f| f.state);
    states.max().unwrap_or(State::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_counts() {
        assert_eq!(worst(&[]), State::Ok);
        let ok = Finding::ok("");
        let skipped = Finding::skipped("");
        let warning = Finding::warning("", "");
        assert_eq!(worst(&[ok, warning, skipped]), State::Warning);
    }

    #[test]
    fn errors_are_shown_in_one_line_with_their_first_hint() {
        let error = Error::preflight("cannot connect")
            .with_source("no\nsuch file")
            .with_hint("start it");
        let finding = Finding::of_error(&error, "-");
        assert_eq!(finding.reason, "cannot connect: no such file");
        assert_eq!(finding.remedy.as_deref(), Some("start it"));
        let plain = Error::internal("x");
        let finding = Finding::of_error(&plain, "do");
        assert_eq!(finding.remedy.as_deref(), Some("do"));
    }

    #[test]
    fn whether_there_is_a_repair_is_printed_but_not_which() {
        let finding = Finding::warning("why", "how").with(Repair::Restrict(vec![]));
        assert_eq!(
            serde_json::to_string(&finding).unwrap(),
            r#"{"name":"","state":"warning","reason":"why","remedy":"how","fixable":true}"#
        );
    }
}
