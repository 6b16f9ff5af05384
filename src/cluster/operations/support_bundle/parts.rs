//! The parts of a bundle, until it is complete.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::redact::Redactor;
use crate::error::{Error, Result};
use crate::progress::Step;

/// The files so far, and what could not be had. A text is written as it is, any other value as JSON.
pub(super) struct Parts<'a> {
    files: Vec<(String, Value)>,
    problems: Vec<String>,
    until: Instant,
    step: &'a Step,
}

impl<'a> Parts<'a> {
    /// Nothing yet; no part begins after `limit`.
    pub(super) fn new(limit: Duration, step: &'a Step) -> Self {
        Parts {
            files: Vec::new(),
            problems: Vec::new(),
            until: Instant::now() + limit,
            step,
        }
    }

    /// Nothing yet, with the same time left: for what is collected beside it.
    pub(super) fn beside(&self) -> Self {
        Parts::new(self.left(), self.step)
    }

    /// Takes over what was collected beside it.
    pub(super) fn append(&mut self, other: Self) {
        self.files.extend(other.files);
        self.problems.extend(other.problems);
    }

    /// Adds a file, or the problem that keeps it from being there.
    pub(super) fn add(&mut self, name: &str, content: Result<impl Into<Value>>) {
        match content {
            Ok(content) => self.files.push((name.to_owned(), content.into())),
            Err(e) => self.problem(name, &e),
        }
    }

    /// Takes note of what could not be had, and why.
    pub(super) fn problem(&mut self, what: &str, error: &Error) {
        let mut chain = vec![error.message().to_owned()];
        chain.extend(error.causes());
        let details = error.details().iter();
        let details: String = details
            .map(|(_, detail)| format!(" | {}", detail.replace('\n', " | ")))
            .collect();
        self.missing(what, &(chain.join(": ") + &details));
    }

    /// As [`Parts::problem`], in words.
    pub(super) fn missing(&mut self, what: &str, why: &str) {
        self.problems.push(format!("{what}: {why}"));
    }

    /// Whether there is time for one more part, which is missing otherwise.
    pub(super) fn go_on(&mut self, what: &str) -> bool {
        let left = self.left();
        if left.is_zero() {
            self.missing(what, "this and what follows it took too long");
        } else {
            self.step.detail(what);
        }
        !left.is_zero()
    }

    /// The time that is left.
    pub(super) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// All files as they are written, and the problems, without secrets.
    pub(super) fn finish(self, redactor: &Redactor) -> (Vec<(String, String)>, Vec<String>) {
        let problems: Vec<String> = self.problems.iter().map(|p| redactor.text(p)).collect();
        let mut files: Vec<(String, String)> = self
            .files
            .into_iter()
            .map(|(name, mut content)| {
                redactor.json(&mut content);
                match content {
                    Value::String(text) => (name, text),
                    json => (name, format!("{json:#}\n")),
                }
            })
            .collect();
        if !problems.is_empty() {
            let text = problems.iter().map(|p| format!("{p}\n")).collect();
            files.push(("problems.txt".into(), text));
        }
        files.sort();
        (files, problems)
    }
}
