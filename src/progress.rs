//! How lower layers report what they do, without printing anything themselves.
//!
//! A layer gets a `&dyn Progress`, opens a [`Step`] for each thing that takes time, and finishes
//! it. How that looks (bars on a terminal, plain lines, nothing with `--quiet`) is the user
//! interface's business (`ui`).

use std::sync::Arc;

/// Receives the steps of a command. Implemented by the user interface and by [`Silent`].
pub trait Progress: Send + Sync {
    /// Opens a step; `title` is an imperative phrase such as `Build the node image`.
    fn step(&self, title: &str) -> Step;
    /// Tells the user something that is worth a line of its own.
    fn note(&self, text: &str);
    /// Tells the user that something is not as it should be, though the work goes on.
    fn warn(&self, text: &str);
}

/// What a user interface implements for one step. Methods may be called from several threads.
pub trait StepSink: Send + Sync {
    /// What the step does at this moment, such as the last line a tool printed.
    fn detail(&self, text: &str);
    /// Bytes done so far, and of how many where that is known.
    fn bytes(&self, done: u64, total: Option<u64>);
    /// The step ended well; `summary` says what came out (may be empty).
    fn done(&self, summary: &str);
    /// There was nothing to do: the thing is there already.
    fn skipped(&self, summary: &str);
    /// The step ended without success; the error is reported elsewhere.
    fn failed(&self);
}

/// A step under way. Dropping it unfinished marks it as failed.
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

    /// A handle that other threads can report through.
    pub fn sink(&self) -> Arc<dyn StepSink> {
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

    /// Ends the step well; `summary` says what came out (may be empty).
    pub fn done(mut self, summary: impl AsRef<str>) {
        self.finished = true;
        self.sink.done(summary.as_ref());
    }

    /// Ends the step with the word that nothing had to be done.
    pub fn skipped(mut self, summary: impl AsRef<str>) {
        self.finished = true;
        self.sink.skipped(summary.as_ref());
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.finished {
            self.sink.failed();
        }
    }
}

/// Reports nothing; for tests and for callers that show no progress.
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

impl StepSink for SilentStep {
    fn detail(&self, _text: &str) {}
    fn bytes(&self, _done: u64, _total: Option<u64>) {}
    fn done(&self, _summary: &str) {}
    fn skipped(&self, _summary: &str) {}
    fn failed(&self) {}
}
