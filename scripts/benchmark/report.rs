//! The measurements as tables for people and as JSON for programs.

use comfy_table::{CellAlignment, Table, TableStyle};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::sample::{self, Line, Sample, TOTAL, Unit};
use crate::stats::{self, Summary};

/// The version of the JSON.
const API_VERSION: &str = "kubby.dev/benchmark/v1";

/// All that a run of the benchmark found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub api_version: String,
    /// What it was measured on.
    pub machine: Value,
    pub samples: Vec<Sample>,
    /// What could not be measured, and why.
    pub failures: Vec<String>,
}

impl Report {
    pub fn new(machine: Value) -> Self {
        Report {
            api_version: API_VERSION.to_owned(),
            machine,
            samples: Vec::new(),
            failures: Vec::new(),
        }
    }
}

/// A ratio: title, then variant and figure above and below the line.
type Ratio = (
    &'static str,
    (&'static str, &'static str),
    (&'static str, &'static str),
);

/// What is compared. Each round is compared with itself.
const RATIOS: [Ratio; 15] = [
    ("cold / floor", ("cold", TOTAL), ("floor", TOTAL)),
    (
        "cold kubectl / floor",
        ("cold", "kubectl answers"),
        ("floor", TOTAL),
    ),
    (
        "cold command / floor",
        ("cold", "command done"),
        ("floor", TOTAL),
    ),
    ("cold / kubeadm", ("cold", TOTAL), ("kubeadm", TOTAL)),
    ("warm / floor", ("warm", TOTAL), ("floor", TOTAL)),
    (
        "warm kubectl / floor",
        ("warm", "kubectl answers"),
        ("floor", TOTAL),
    ),
    ("warm / cold", ("warm", TOTAL), ("cold", TOTAL)),
    ("suspend / floor", ("suspend", TOTAL), ("floor", TOTAL)),
    (
        "3 nodes cold / cold",
        ("3 nodes cold", TOTAL),
        ("cold", "command done"),
    ),
    (
        "3 nodes warm / floor",
        ("3 nodes warm", TOTAL),
        ("floor", TOTAL),
    ),
    ("node add / floor", ("node add", TOTAL), ("floor", TOTAL)),
    (
        "3 nodes fork / floor",
        ("3 nodes fork", TOTAL),
        ("floor", TOTAL),
    ),
    (
        "3 nodes fork kubectl / floor",
        ("3 nodes fork", "kubectl answers"),
        ("floor", TOTAL),
    ),
    (
        "3 nodes resume / floor",
        ("3 nodes resume", TOTAL),
        ("floor", TOTAL),
    ),
    (
        "3 nodes resume kubectl / floor",
        ("3 nodes resume", "kubectl answers"),
        ("floor", TOTAL),
    ),
];

/// The ratios of what was measured.
pub fn ratios(samples: &[Sample]) -> Vec<(&'static str, Summary)> {
    RATIOS
        .iter()
        .filter_map(|(title, above, below)| {
            let above = sample::series(samples, above.0, above.1);
            let below = sample::series(samples, below.0, below.1);
            let summary = stats::summary(&stats::ratios(&above, &below))?;
            Some((*title, summary))
        })
        .collect()
}

/// The whole report for people.
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    for variant in sample::variants(&report.samples) {
        out.push_str(&variant_table(&report.samples, variant));
        out.push('\n');
    }
    let ratios = ratios(&report.samples);
    if !ratios.is_empty() {
        let mut table = new_table(&["ratio, round by round", "median", "spread"]);
        for (title, summary) in &ratios {
            table.add_row([
                (*title).to_owned(),
                format!("{:.2}", summary.median),
                format!("{:.2} to {:.2}", summary.least, summary.greatest),
            ]);
        }
        out.push_str(&kubby::testing::ui::table(&table));
        out.push('\n');
    }
    for failure in &report.failures {
        out.push_str(&format!("not measured: {failure}\n"));
    }
    out.push_str(&format!("on: {}\n", machine(&report.machine)));
    out
}

/// One line of the machine's facts.
pub fn machine(facts: &Value) -> String {
    let text = |name: &str| match &facts[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    format!(
        "{}, {} CPUs, {} MiB; {} (QEMU {}, libvirt {}); nodes with {} CPUs and {} MiB; {}",
        text("cpu"),
        text("cpus"),
        text("memoryMiB"),
        text("acceleration"),
        text("qemu"),
        text("libvirt"),
        text("nodeCpus"),
        text("nodeMemoryMiB"),
        text("kubby"),
    )
}

/// A variant: one row a figure, one column a round.
fn variant_table(samples: &[Sample], variant: &str) -> String {
    let rounds: Vec<&Sample> = samples.iter().filter(|s| s.variant == variant).collect();
    let mut titles = vec![variant.to_owned(), String::new()];
    titles.extend(rounds.iter().map(|s| format!("round {}", s.round)));
    titles.extend(["median".to_owned(), "spread".to_owned()]);
    let mut table = new_table(&titles);
    for line in sample::lines(samples, variant) {
        let Line { name, unit, .. } = &line;
        let show = |value: f64| shown(value, *unit);
        let mut row = vec![name.clone(), unit.name().to_owned()];
        row.extend(
            rounds
                .iter()
                .map(|s| s.get(name).map_or_else(|| "-".to_owned(), show)),
        );
        row.push(show(line.summary.median));
        row.push(format!(
            "{} to {}",
            show(line.summary.least),
            show(line.summary.greatest)
        ));
        table.add_row(row);
    }
    kubby::testing::ui::table(&table)
}

fn shown(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Seconds => format!("{value:.2}"),
        Unit::Percent | Unit::Milliseconds | Unit::MebibytesPerSecond => format!("{value:.1}"),
        Unit::Mebibytes | Unit::Count => format!("{value:.0}"),
    }
}

fn new_table<T: ToString>(titles: &[T]) -> Table {
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    table.set_header(titles.iter().map(ToString::to_string));
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_cell_alignment(match index {
            0 => CellAlignment::Left,
            _ => CellAlignment::Right,
        });
    }
    table
}

/// The whole report for programs, with medians and ratios beside the raw figures.
pub fn json(report: &Report) -> Value {
    let mut out = serde_json::to_value(report).unwrap_or_default();
    let summed = |s: &Summary| {
        serde_json::json!({
            "median": stats::rounded(s.median, 3),
            "least": stats::rounded(s.least, 3),
            "greatest": stats::rounded(s.greatest, 3),
        })
    };
    let mut summaries = serde_json::Map::new();
    for variant in sample::variants(&report.samples) {
        let lines = sample::lines(&report.samples, variant);
        let figures: serde_json::Map<String, Value> = lines
            .iter()
            .map(|line| (line.name.clone(), summed(&line.summary)))
            .collect();
        summaries.insert(variant.to_owned(), Value::Object(figures));
    }
    out["summaries"] = Value::Object(summaries);
    out["ratios"] = ratios(&report.samples)
        .iter()
        .map(|(title, summary)| ((*title).to_owned(), summed(summary)))
        .collect();
    out
}
