//! Where the time of a command goes: spans, written as a trace for Perfetto or `chrome://tracing`.
//!
//! Spans cost nothing unless a [`Recording`] is under way. Each thread is a lane of its own; what
//! begins while another span of its thread is open is drawn below that one.

use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};

use crate::error::{Kind, Result, ResultExt};
use crate::progress::{Progress, Step, StepSink};

/// The lane of stages, above those of threads.
const STAGES: u32 = 0;

/// The one recording of this process.
static RECORDER: Mutex<Option<Recorder>> = Mutex::new(None);

/// The next thread's lane.
static NEXT_LANE: AtomicU32 = AtomicU32::new(STAGES + 1);

thread_local! {
    static LANE: Cell<Option<u32>> = const { Cell::new(None) };
}

/// What was recorded so far.
struct Recorder {
    began: Instant,
    spans: Vec<Finished>,
}

/// A span that has ended.
struct Finished {
    name: String,
    lane: u32,
    began: Instant,
    ended: Instant,
    /// What came out, where there is more to say than the name.
    outcome: String,
}

impl Recorder {
    /// The trace event format: complete events (`X`) with microseconds, and the lanes' names.
    fn render(&self) -> Value {
        let micros = |at: Instant| {
            let since = at.saturating_duration_since(self.began).as_micros();
            u64::try_from(since).unwrap_or(u64::MAX)
        };
        let mut lanes: Vec<u32> = self.spans.iter().map(|s| s.lane).collect();
        lanes.sort_unstable();
        lanes.dedup();
        let names = lanes.into_iter().map(|lane| {
            let name = match lane {
                STAGES => "stages".to_owned(),
                n => format!("thread {n}"),
            };
            json!({"ph": "M", "name": "thread_name", "pid": 1, "tid": lane, "args": {"name": name}})
        });
        let spans = self.spans.iter().map(|span| {
            let mut event = json!({
                "ph": "X",
                "name": span.name,
                "pid": 1,
                "tid": span.lane,
                "ts": micros(span.began),
                // From rounded to rounded, so that no span ends after the one that it is in.
                "dur": micros(span.ended) - micros(span.began),
            });
            if !span.outcome.is_empty() {
                event["args"] = json!({"outcome": span.outcome});
            }
            event
        });
        let events: Vec<Value> = names.chain(spans).collect();
        json!({"displayTimeUnit": "ms", "traceEvents": events})
    }
}

fn recorder() -> MutexGuard<'static, Option<Recorder>> {
    // What a thread that panicked has recorded is whole.
    RECORDER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// This thread's lane.
fn lane() -> u32 {
    LANE.with(|lane| {
        lane.get().unwrap_or_else(|| {
            let new = NEXT_LANE.fetch_add(1, Ordering::Relaxed);
            lane.set(Some(new));
            new
        })
    })
}

fn record(name: String, lane: u32, began: Instant, outcome: String) {
    if let Some(recorder) = recorder().as_mut() {
        recorder.spans.push(Finished {
            name,
            lane,
            began,
            ended: Instant::now(),
            outcome,
        });
    }
}

/// Something that takes time; it ends when it is dropped.
#[must_use = "a span ends when it is dropped"]
pub struct Span {
    name: String,
    lane: u32,
    began: Instant,
}

/// Begins a span on this thread's lane.
pub fn span(name: impl Into<String>) -> Span {
    Span {
        name: name.into(),
        lane: lane(),
        began: Instant::now(),
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let name = std::mem::take(&mut self.name);
        record(name, self.lane, self.began, String::new());
    }
}

/// Records a stage of the command that began at `began` and ends now.
pub fn stage(name: &str, began: Instant) {
    record(name.to_owned(), STAGES, began, String::new());
}

/// A recording that ends up in a file.
pub struct Recording {
    path: PathBuf,
    file: File,
}

impl Recording {
    /// Begins to record; the file is made at once, so that a path that makes no sense is told
    /// before anything else is done.
    ///
    /// # Errors
    /// [`Kind::Usage`] when the file cannot be made.
    pub fn begin(path: &Path) -> Result<Recording> {
        let file = File::create(path).context(Kind::Usage, || {
            format!("cannot write the trace {}", path.display())
        })?;
        *recorder() = Some(Recorder {
            began: Instant::now(),
            spans: Vec::new(),
        });
        Ok(Recording {
            path: path.to_owned(),
            file,
        })
    }

    /// Ends the recording and writes it down.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the file cannot be written, such as on a full disk.
    pub fn end(mut self) -> Result<()> {
        let Some(recorder) = recorder().take() else {
            return Ok(());
        };
        let text = format!("{}\n", recorder.render());
        self.file
            .write_all(text.as_bytes())
            .context(Kind::Internal, || {
                format!("cannot write the trace {}", self.path.display())
            })
    }
}

/// Progress whose steps are spans as well, and so is each thing that a step tells of meanwhile:
/// what a wait waited for, what a tool printed.
pub struct Traced<'a> {
    inner: &'a dyn Progress,
}

impl<'a> Traced<'a> {
    /// Traces what goes to `inner`.
    pub fn new(inner: &'a dyn Progress) -> Self {
        Traced { inner }
    }
}

impl Progress for Traced<'_> {
    fn step(&self, title: &str) -> Step {
        let inner = self.inner.step(title);
        Step::new(Arc::new(TracedStep {
            sink: inner.sink(),
            title: title.to_owned(),
            lane: lane(),
            began: Instant::now(),
            detail: Mutex::new(None),
            inner: Mutex::new(Some(inner)),
        }))
    }

    fn note(&self, text: &str) {
        self.inner.note(text);
    }

    fn warn(&self, text: &str) {
        self.inner.warn(text);
    }
}

/// A step and the span that it is.
struct TracedStep {
    inner: Mutex<Option<Step>>,
    sink: Arc<dyn StepSink>,
    title: String,
    lane: u32,
    began: Instant,
    /// What the step does at this moment, and since when.
    detail: Mutex<Option<(String, Instant)>>,
}

impl TracedStep {
    /// Ends the span of the detail before, where `next` is another one.
    fn change(&self, next: Option<&str>) {
        let mut detail = self.detail.lock().unwrap_or_else(PoisonError::into_inner);
        if detail.as_ref().map(|(text, _)| text.as_str()) == next {
            return;
        }
        let next = next.map(|text| (text.to_owned(), Instant::now()));
        if let Some((text, began)) = std::mem::replace(&mut *detail, next) {
            record(text, self.lane, began, String::new());
        }
    }

    /// Ends both spans and hands over the step itself.
    fn end(&self, outcome: &str) -> Option<Step> {
        self.change(None);
        record(
            self.title.clone(),
            self.lane,
            self.began,
            outcome.to_owned(),
        );
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.take()
    }
}

impl StepSink for TracedStep {
    fn detail(&self, text: &str) {
        self.change(Some(text).filter(|text| !text.is_empty()));
        self.sink.detail(text);
    }

    fn bytes(&self, done: u64, total: Option<u64>) {
        self.sink.bytes(done, total);
    }

    fn done(&self, summary: &str) {
        if let Some(step) = self.end(summary) {
            step.done(summary);
        }
    }

    fn skipped(&self, summary: &str) {
        if let Some(step) = self.end(summary) {
            step.skipped(summary);
        }
    }

    fn failed(&self) {
        // Dropping the step marks it as failed.
        drop(self.end("failed"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    /// One test for all: there is one recording in a process, which other tests' steps are not in.
    #[test]
    fn a_recording_has_stages_steps_and_what_they_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.json");
        let recording = Recording::begin(&path).unwrap();
        let began = Instant::now();
        let progress = Traced::new(&Silent);
        let step = progress.step("Wait for the API");
        step.detail("connection \"refused\"");
        step.detail("connection \"refused\"");
        step.detail("etcd is not ready");
        step.done("it is there");
        stage("api", began);
        std::thread::scope(|scope| {
            scope.spawn(|| drop(span("import images")));
            scope.spawn(|| drop(progress.step("Boot the node")));
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
        let step = one("Wait for the API");
        assert_eq!(step["args"]["outcome"], "it is there");
        for name in ["connection \"refused\"", "etcd is not ready"] {
            let wait = one(name);
            assert_eq!(wait["tid"], step["tid"]);
            let end = |e: &Value| e["ts"].as_u64().unwrap() + e["dur"].as_u64().unwrap();
            assert!(wait["ts"].as_u64() >= step["ts"].as_u64() && end(wait) <= end(step));
        }
        assert_eq!(one("api")["tid"], STAGES);
        assert_eq!(one("Boot the node")["args"]["outcome"], "failed");
        assert_ne!(one("Boot the node")["tid"], one("import images")["tid"]);
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
