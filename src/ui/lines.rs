//! Progress as plain lines: for CI logs, pipes and screen readers.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::text::{elapsed, say, tail, visible};
use crate::progress::{Outcome, Progress, Step, StepSink};
use crate::units::human_bytes;

/// The pause between two reports of a long step that it is still running.
const REPORT_EVERY: Duration = Duration::from_secs(15);

/// Progress as one line when a step begins, one when it ends, and reports in between.
pub(super) struct Lines {
    /// Whether every detail becomes a line.
    pub(super) verbose: bool,
}

impl Progress for Lines {
    fn step(&self, title: &str) -> Step {
        say(&format!("==> {}", visible(title)));
        let state = Arc::new(Mutex::new(State::default()));
        let (end, ended) = mpsc::channel::<()>();
        let watched = Arc::clone(&state);
        let name = visible(title).into_owned();
        let started = Instant::now();
        std::thread::spawn(move || {
            while let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(REPORT_EVERY) {
                let state = watched.lock().unwrap_or_else(PoisonError::into_inner);
                say(&format!(
                    "    {name}: {} so far{}",
                    elapsed(started),
                    state.describe()
                ));
            }
        });
        Step::new(Arc::new(LineStep {
            title: visible(title).into_owned(),
            started,
            state,
            verbose: self.verbose,
            end: Mutex::new(Some(end)),
        }))
    }

    fn note(&self, text: &str) {
        say(&visible(text));
    }

    fn warn(&self, text: &str) {
        say(&format!("warning: {}", visible(text)));
    }
}

#[derive(Default)]
struct State {
    detail: String,
    bytes: Option<(u64, Option<u64>)>,
}

impl State {
    fn describe(&self) -> String {
        match self.bytes {
            Some((done, Some(total))) => {
                format!(", {} of {}", human_bytes(done), human_bytes(total))
            }
            Some((done, None)) => format!(", {}", human_bytes(done)),
            None if self.detail.is_empty() => String::new(),
            None => format!(" ({})", self.detail),
        }
    }
}

struct LineStep {
    title: String,
    started: Instant,
    state: Arc<Mutex<State>>,
    verbose: bool,
    end: Mutex<Option<mpsc::Sender<()>>>,
}

impl StepSink for LineStep {
    fn detail(&self, text: &str) {
        let text = visible(text);
        if self.verbose {
            say(&format!("    | {text}"));
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.detail = text.chars().take(120).collect();
    }

    fn bytes(&self, done: u64, total: Option<u64>) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .bytes = Some((done, total));
    }

    fn end(&self, outcome: Outcome, summary: &str) {
        let word = match outcome {
            Outcome::Done => "done",
            Outcome::Skipped => "nothing to do",
            Outcome::Failed => "FAILED",
        };
        self.end
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let (title, tail, time) = (&self.title, tail(summary), elapsed(self.started));
        say(&format!("    {title} {word}{tail} ({time})"));
    }
}
