//! The progress of a command: lower layers report what they do, and print nothing themselves.
//!
//! A layer gets a `&dyn Progress`, opens a [`Step`] for each thing that takes time, and finishes
//! it. The user interface (`ui`) shows it: bars on a terminal, plain lines, nothing with `--quiet`.

use std::sync::Arc;

/// A receiver of a command's steps: the user interface, or [`Silent`].
pub trait Progress: Send + Sync {
    /// Opens a step; `title` is an imperative phrase such as `Build the node image`.
    fn step(&self, title: &str) -> Step;
    /// Prints something that is worth a line of its own.
    fn note(&self, text: &str);
    /// Warns that something is not as it should be, though the work continues.
    fn warn(&self, text: &str);
}

/// The interface that a user interface implements for one step; what it leaves out reports nothing. Methods may be called from several threads.
pub trait StepSink: Send + Sync {
    /// Reports what the step does at this moment, such as the last line that a tool printed.
    fn detail(&self, _text: &str) {}
    /// Reports the bytes that are done so far, and their total where that is known.
    fn bytes(&self, _done: u64, _total: Option<u64>) {}
    /// Ends the step; `summary` says what came out (may be empty).
    fn end(&self, _outcome: Outcome, _summary: &str) {}
}

/// The way in which a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With success.
    Done,
    /// Without having done anything: the thing is there already.
    Skipped,
    /// Without success; the error is reported elsewhere.
    Failed,
}

/// A running step. Dropping it unfinished marks it as failed.
pub struct Step {
    sink: Arc<dyn StepSink>,
    finished: bool,
}

impl Step {
    /// Wraps a sink of the user interface.
    pub fn new(sink: Arc<dyn StepSink>) -> Self {
        Step {
            sink,
            finished: false,
        }
    }

    /// Returns a handle that other threads can report through.
    pub fn sink(&self) -> Arc<dyn StepSink> {
        Arc::clone(&self.sink)
    }

    /// Hands out the sink, through which the step has to be ended.
    pub fn into_sink(mut self) -> Arc<dyn StepSink> {
        self.finished = true;
        Arc::clone(&self.sink)
    }

    /// See [`StepSink::detail`].
    pub fn detail(&self, text: &str) {
        self.sink.detail(text);
    }

    /// See [`StepSink::bytes`].
    pub fn bytes(&self, done: u64, total: Option<u64>) {
        self.sink.bytes(done, total);
    }

    /// Ends the step with success; `summary` says what came out (may be empty).
    pub fn done(mut self, summary: impl AsRef<str>) {
        self.finished = true;
        self.sink.end(Outcome::Done, summary.as_ref());
    }

    /// Ends the step as one in which nothing had to be done.
    pub fn skipped(mut self, summary: impl AsRef<str>) {
        self.finished = true;
        self.sink.end(Outcome::Skipped, summary.as_ref());
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.finished {
            self.sink.end(Outcome::Failed, "");
        }
    }
}

/// Progress that reports nothing, for tests and for callers that show none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _title: &str) -> Step {
        Step::new(Arc::new(SilentStep))
    }
    fn note(&self, _text: &str) {}
    fn warn(&self, _text: &str) {}
}

struct SilentStep;

impl StepSink for SilentStep {}
