//! What was measured: named figures of one run of one variant.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::stats::{Summary, rounded, summary};

/// The total of a variant: until all of its stages are there.
pub const TOTAL: &str = "total";

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "MiB")]
    Mebibytes,
    #[serde(rename = "ms")]
    Milliseconds,
    #[serde(rename = "MiB/s")]
    MebibytesPerSecond,
    /// Of one CPU of the host.
    #[serde(rename = "%")]
    Percent,
    #[serde(rename = "n")]
    Count,
}

impl Unit {
    pub fn name(self) -> &'static str {
        match self {
            Unit::Seconds => "s",
            Unit::Mebibytes => "MiB",
            Unit::Milliseconds => "ms",
            Unit::MebibytesPerSecond => "MiB/s",
            Unit::Percent => "%",
            Unit::Count => "",
        }
    }

    fn decimals(self) -> i32 {
        match self {
            Unit::Seconds => 3,
            Unit::Percent | Unit::Milliseconds | Unit::MebibytesPerSecond => 1,
            Unit::Mebibytes | Unit::Count => 0,
        }
    }
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is, such as `kubectl answers`.
    pub name: String,
    pub unit: Unit,
    pub value: f64,
    /// A moment since the beginning, which the plot draws; else a quantity of its own.
    pub stage: bool,
}

/// One run of one variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// What was measured, such as `cold`.
    pub variant: String,
    /// From 1.
    pub round: u32,
    pub figures: Vec<Figure>,
    /// What the command itself reported, as it was.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub report: Value,
}

impl Sample {
    pub fn new(variant: &str, round: u32) -> Self {
        Sample {
            variant: variant.to_owned(),
            round,
            figures: Vec::new(),
            report: Value::Null,
        }
    }

    /// Adds a moment, in seconds since the beginning.
    pub fn stage(&mut self, name: &str, seconds: f64) {
        self.push(name, Unit::Seconds, seconds, true);
    }

    /// Adds a quantity.
    pub fn quantity(&mut self, name: &str, unit: Unit, value: f64) {
        self.push(name, unit, value, false);
    }

    fn push(&mut self, name: &str, unit: Unit, value: f64, stage: bool) {
        self.figures.push(Figure {
            name: name.to_owned(),
            unit,
            value: rounded(value, unit.decimals()),
            stage,
        });
    }

    /// Ends the stages: the latest of them is the total.
    pub fn total(&mut self) {
        let stages = self.figures.iter().filter(|f| f.stage);
        if let Some(latest) = stages.map(|f| f.value).max_by(f64::total_cmp) {
            self.quantity(TOTAL, Unit::Seconds, latest);
        }
    }

    pub fn get(&self, name: &str) -> Option<f64> {
        self.figures
            .iter()
            .find(|f| f.name == name)
            .map(|f| f.value)
    }
}

/// A figure of a variant over all its rounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub name: String,
    pub unit: Unit,
    pub stage: bool,
    pub summary: Summary,
}

/// The variants, in the order in which they were first measured.
pub fn variants(samples: &[Sample]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for sample in samples {
        if !names.contains(&sample.variant.as_str()) {
            names.push(&sample.variant);
        }
    }
    names
}

/// A variant's figures over its rounds: the stages by time, then the other quantities as they were
/// added.
pub fn lines(samples: &[Sample], variant: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for figure in samples
        .iter()
        .filter(|s| s.variant == variant)
        .flat_map(|s| &s.figures)
    {
        if lines.iter().any(|line| line.name == figure.name) {
            continue;
        }
        let values: Vec<f64> = series(samples, variant, &figure.name)
            .into_iter()
            .map(|(_, value)| value)
            .collect();
        if let Some(summary) = summary(&values) {
            lines.push(Line {
                name: figure.name.clone(),
                unit: figure.unit,
                stage: figure.stage,
                summary,
            });
        }
    }
    // A stable sort, so that lines other than stages keep their order.
    lines.sort_by(|a, b| match (a.stage, b.stage) {
        (true, true) => a.summary.median.total_cmp(&b.summary.median),
        (a, b) => b.cmp(&a),
    });
    lines
}

/// A figure of a variant, round by round.
pub fn series(samples: &[Sample], variant: &str, name: &str) -> Vec<(u32, f64)> {
    samples
        .iter()
        .filter(|s| s.variant == variant)
        .filter_map(|s| Some((s.round, s.get(name)?)))
        .collect()
}
