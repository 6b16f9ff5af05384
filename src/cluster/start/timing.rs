//! The durations of a start's stages.

use std::time::{Duration, Instant};

use crate::trace;

/// Measures one stage after the other.
pub(crate) struct Stopwatch {
    last: Instant,
    /// The stages that have ended, in their order.
    pub(crate) stages: Vec<(&'static str, Duration)>,
}

impl Stopwatch {
    /// Starts the first stage.
    pub(crate) fn start() -> Self {
        Stopwatch {
            last: Instant::now(),
            stages: Vec::new(),
        }
    }

    /// Ends the running stage and gives it a name; the next begins.
    pub(crate) fn end(&mut self, name: &'static str) {
        let now = Instant::now();
        trace::stage(name, self.last);
        self.stages.push((name, now - self.last));
        self.last = now;
    }
}
