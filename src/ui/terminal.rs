//! Progress on a terminal: a spinner or a bar for each running step, a finished line for each
//! that ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::text::{elapsed, tail, visible};
use crate::progress::{Outcome, Progress, Step, StepSink};

/// Progress drawn by indicatif.
#[derive(Default)]
pub(super) struct Terminal {
    pub(super) bars: MultiProgress,
    /// Whether it is in colour.
    pub(super) colour: bool,
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .progress_chars("━╸ ")
        .tick_strings(&["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏", "✓"])
}

impl Progress for Terminal {
    fn step(&self, title: &str) -> Step {
        let bar = self.bars.add(ProgressBar::new_spinner());
        bar.set_style(style("{spinner} {prefix} {elapsed} {wide_msg:.dim}"));
        bar.set_prefix(visible(title).into_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Step::new(Arc::new(BarStep {
            bars: self.bars.clone(),
            bar,
            title: visible(title).into_owned(),
            started: Instant::now(),
            counted: AtomicBool::new(false),
            colour: self.colour,
        }))
    }

    fn note(&self, text: &str) {
        let _ = self.bars.println(visible(text));
    }

    fn warn(&self, text: &str) {
        let text = visible(text);
        let line = if self.colour {
            format!("\x1b[33mwarning:\x1b[0m {text}")
        } else {
            format!("warning: {text}")
        };
        let _ = self.bars.println(line);
    }
}

struct BarStep {
    bars: MultiProgress,
    bar: ProgressBar,
    title: String,
    started: Instant,
    counted: AtomicBool,
    colour: bool,
}

impl StepSink for BarStep {
    fn detail(&self, text: &str) {
        let clean: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
        self.bar.set_message(clean);
    }

    fn bytes(&self, done: u64, total: Option<u64>) {
        if !self.counted.swap(true, Ordering::Relaxed) {
            self.bar.set_style(style(match total {
                Some(_) => "{spinner} {prefix} {elapsed} {bar:24} {bytes}/{total_bytes} {bytes_per_sec} {wide_msg:.dim}",
                None => "{spinner} {prefix} {elapsed} {bytes} {bytes_per_sec} {wide_msg:.dim}",
            }));
        }
        if let Some(total) = total {
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
    }

    fn end(&self, outcome: Outcome, summary: &str) {
        let (mark, ansi) = match outcome {
            Outcome::Done => ("✓", "32"),
            Outcome::Skipped => ("·", "2"),
            Outcome::Failed => ("✗", "31"),
        };
        let mark = match self.colour {
            true => format!("\x1b[{ansi}m{mark}\x1b[0m"),
            false => mark.to_owned(),
        };
        self.bar.finish_and_clear();
        self.bars.remove(&self.bar);
        let (title, tail, time) = (&self.title, tail(summary), elapsed(self.started));
        let _ = self.bars.println(format!("{mark} {title}{tail} ({time})"));
    }
}
