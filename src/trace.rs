//! Records where the time of a command goes: spans, written as a trace for Perfetto or
//! `chrome://tracing`.
//!
//! Spans cost nothing unless a [`Recording`] is running. Each thread is a lane of its own; a span
//! that begins while another one of its thread is open is drawn below that one.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};

use crate::error::{Kind, Result, ResultExt};
use crate::progress::{Outcome, Progress, Step, StepSink};

/// The lane of stages, above those of threads.
const STAGES: u64 = 0;

/// The one recording of this process.
static RECORDER: Mutex<Option<Recorder>> = Mutex::new(None);

/// The next thread's lane.
static NEXT_LANE: AtomicU64 = AtomicU64::new(STAGES + 1);

thread_local! {
    /// This thread's lane.
    static LANE: u64 = NEXT_LANE.fetch_add(1, Ordering::Relaxed);
}

/// The spans that have ended, in the trace event format.
struct Recorder {
    began: Instant,
    events: Vec<Value>,
}

impl Recorder {
    /// Adds a complete event (`X`); times are in microseconds.
    fn record(&mut self, span: &Span) {
        let micros = |at: Instant| {
            let since = at.saturating_duration_since(self.began).as_micros();
            u64::try_from(since).unwrap_or(u64::MAX)
        };
        let mut event = json!({
            "ph": "X",
            "name": span.name,
            "pid": 1,
            "tid": span.lane,
            "ts": micros(span.began),
            // From rounded to rounded, so that no span ends after the one that it is in.
            "dur": micros(Instant::now()) - micros(span.began),
        });
        if !span.outcome.is_empty() {
            event["args"] = json!({"outcome": span.outcome});
        }
        self.events.push(event);
    }

    /// Returns the whole trace, which begins with the lanes' names.
    fn finish(self) -> Value {
        let lanes: BTreeSet<_> = self.events.iter().map(|e| e["tid"].as_u64()).collect();
        let names = lanes.into_iter().flatten().map(|lane| {
            let name = match lane {
                STAGES => "stages".to_owned(),
                n => format!("thread {n}"),
            };
            json!({"ph": "M", "name": "thread_name", "pid": 1, "tid": lane, "args": {"name": name}})
        });
        let events: Vec<Value> = names.chain(self.events).collect();
        json!({"displayTimeUnit": "ms", "traceEvents": events})
    }
}

/// Something that takes time; it ends when it is dropped.
#[must_use = "a span ends when it is dropped"]
pub(crate) struct Span {
    name: String,
    lane: u64,
    began: Instant,
    /// The result, where there is more to say than the name.
    outcome: String,
}

impl Span {
    fn on(lane: u64, name: impl Into<String>, began: Instant) -> Self {
        Span {
            name: name.into(),
            lane,
            began,
            outcome: String::new(),
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        // What a thread that panicked has recorded is whole.
        let mut recorder = RECORDER.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(recorder) = recorder.as_mut() {
            recorder.record(self);
        }
    }
}

/// Begins a span on this thread's lane.
pub(crate) fn span(name: impl Into<String>) -> Span {
    Span::on(LANE.with(|lane| *lane), name, Instant::now())
}

/// Records a stage of the command that began at `began` and ends now.
pub(crate) fn stage(name: &str, began: Instant) {
    drop(Span::on(STAGES, name, began));
}

/// A recording that ends up in a file.
pub(crate) struct Recording {
    path: PathBuf,
    file: File,
}

impl Recording {
    /// Begins to record. The file is made at once, so that a wrong path is reported before anything
    /// else is done.
    ///
    /// # Errors
    /// [`Kind::Usage`] when the file cannot be made.
    pub(crate) fn begin(path: &Path) -> Result<Recording> {
        let file = File::create(path).context(Kind::Usage, || {
            format!("cannot write the trace {}", path.display())
        })?;
        *RECORDER.lock().unwrap_or_else(PoisonError::into_inner) = Some(Recorder {
            began: Instant::now(),
            events: Vec::new(),
        });
        Ok(Recording {
            path: path.to_owned(),
            file,
        })
    }

    /// Ends the recording and writes the file.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the file cannot be written, such as on a full disk.
    pub(crate) fn end(mut self) -> Result<()> {
        let recorder = RECORDER
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(recorder) = recorder else {
            return Ok(());
        };
        writeln!(self.file, "{}", recorder.finish()).context(Kind::Internal, || {
            format!("cannot write the trace {}", self.path.display())
        })
    }
}

/// Progress whose steps are recorded as spans, and so is each detail that a step reports: what a
/// wait waited for, what a tool printed.
pub(crate) struct Traced<'a>(pub(crate) &'a dyn Progress);

impl Progress for Traced<'_> {
    fn step(&self, title: &str) -> Step {
        let span = span(title);
        Step::new(Arc::new(TracedStep {
            inner: self.0.step(title).into_sink(),
            lane: span.lane,
            spans: Mutex::new((Some(span), None)),
        }))
    }

    fn note(&self, text: &str) {
        self.0.note(text);
    }

    fn warn(&self, text: &str) {
        self.0.warn(text);
    }
}

/// A step that is recorded as a span.
struct TracedStep {
    inner: Arc<dyn StepSink>,
    lane: u64,
    /// The spans of the step and of its last detail.
    spans: Mutex<(Option<Span>, Option<Span>)>,
}

impl StepSink for TracedStep {
    fn detail(&self, text: &str) {
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        if spans.1.as_ref().map_or("", |span| &span.name) != text {
            let next = || Span::on(self.lane, text, Instant::now());
            spans.1 = None;
            spans.1 = (!text.is_empty()).then(next);
        }
        self.inner.detail(text);
    }

    fn bytes(&self, done: u64, total: Option<u64>) {
        self.inner.bytes(done, total);
    }

    fn end(&self, outcome: Outcome, summary: &str) {
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        spans.1 = None;
        if let Some(mut step) = spans.0.take() {
            step.outcome = match outcome {
                Outcome::Failed => "failed".to_owned(),
                _ => summary.to_owned(),
            };
        }
        drop(spans);
        self.inner.end(outcome, summary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    /// One test for all: there is one recording in a process. Other tests' stages may be in it, so this one's
    /// names are its own.
    #[test]
    fn a_recording_has_stages_steps_and_what_they_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.json");
        let recording = Recording::begin(&path).unwrap();
        let began = Instant::now();
        let progress = Traced(&Silent);
        let step = progress.step("Wait for the test");
        step.detail("connection \"refused\"");
        step.detail("connection \"refused\"");
        step.detail("etcd is not ready");
        step.done("it is there");
        stage("a test's stage", began);
        std::thread::scope(|scope| {
            scope.spawn(|| drop(span("a test's span")));
            scope.spawn(|| drop(progress.step("Run a test")));
        });
        recording.end().unwrap();

        let trace: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let all = |name: &str| -> Vec<&Value> {
            events
                .iter()
                .filter(|e| e["ph"] == "X" && e["name"] == name)
                .collect()
        };
        let one = |name: &str| {
            let found = all(name);
            assert_eq!(found.len(), 1, "{name}: {trace}");
            found[0]
        };
        let step = one("Wait for the test");
        assert_eq!(step["args"]["outcome"], "it is there");
        for name in ["connection \"refused\"", "etcd is not ready"] {
            let wait = one(name);
            assert_eq!(wait["tid"], step["tid"]);
            let end = |e: &Value| e["ts"].as_u64().unwrap() + e["dur"].as_u64().unwrap();
            assert!(wait["ts"].as_u64() >= step["ts"].as_u64() && end(wait) <= end(step));
        }
        assert_eq!(one("a test's stage")["tid"], STAGES);
        assert_eq!(one("Run a test")["args"]["outcome"], "failed");
        assert_ne!(one("Run a test")["tid"], one("a test's span")["tid"]);
        assert!(
            events
                .iter()
                .any(|e| e["ph"] == "M" && e["args"]["name"] == "stages")
        );

        let missing = dir.path().join("no/such/folder");
        let error = Recording::begin(&missing).err().unwrap();
        assert_eq!(error.kind(), Kind::Usage);
    }
}
