//! The parts of the benchmark (`scripts/benchmark`) that measure nothing: statistics, reports and
//! the picture.

#![allow(dead_code, clippy::allow_attributes, reason = "each test uses a part")]

#[path = "../scripts/benchmark/plot.rs"]
mod plot;
#[path = "../scripts/benchmark/process.rs"]
mod process;
#[path = "../scripts/benchmark/report.rs"]
mod report;
#[path = "../scripts/benchmark/sample.rs"]
mod sample;
#[path = "../scripts/benchmark/stats.rs"]
mod stats;

use report::Report;
use sample::{Sample, TOTAL, Unit};
use serde_json::json;

/// Two rounds of the floor and of cold starts, the second on a machine half as fast.
fn measured() -> Report {
    let mut report = Report::new(json!({
        "cpu": "Some <CPU> & Co", "cpus": 4, "memoryMiB": 16000, "acceleration": "tcg",
        "qemu": "10.0.0", "libvirt": "9.0.0", "nodeCpus": 4, "nodeMemoryMiB": 4096,
        "kubby": "kubby 0.1.0",
    }));
    for (round, slow) in [(1, 1.0), (2, 2.0)] {
        let mut floor = Sample::new("floor", round);
        floor.stage("SSH answers", 10.0 * slow);
        floor.total();
        let mut cold = Sample::new("cold", round);
        cold.stage("command done", 50.0 * slow);
        cold.stage("kubectl answers", 30.0 * slow);
        cold.total();
        cold.quantity("idle CPU", Unit::Percent, 12.34);
        report.samples.extend([floor, cold]);
    }
    report
}

#[test]
fn medians_are_in_the_middle() {
    let summary = |figures: &[f64]| stats::summary(figures);
    assert_eq!(summary(&[]), None);
    assert_eq!(summary(&[f64::NAN]), None);
    let odd = summary(&[3.0, 1.0, 2.0]).unwrap();
    assert_eq!((odd.median, odd.least, odd.greatest), (2.0, 1.0, 3.0));
    assert_eq!(summary(&[4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
}

#[test]
fn ratios_are_of_the_same_round() {
    // Round 3 has no floor, round 4 a senseless one.
    let above = [(1, 30.0), (2, 60.0), (3, 90.0), (4, 1.0)];
    let below = [(2, 20.0), (1, 10.0), (4, 0.0)];
    assert_eq!(stats::ratios(&above, &below), [3.0, 3.0]);
    let report = measured();
    let ratios = report::ratios(&report.samples);
    let (title, summary) = ratios[0];
    assert_eq!(title, "cold / floor");
    assert_eq!(
        (summary.median, summary.least, summary.greatest),
        (5.0, 5.0, 5.0)
    );
    let titles: Vec<&str> = ratios.iter().map(|(title, _)| *title).collect();
    assert_eq!(
        titles,
        [
            "cold / floor",
            "cold kubectl / floor",
            "cold command / floor"
        ]
    );
}

#[test]
fn stages_come_by_time_and_the_latest_is_the_total() {
    let report = measured();
    let lines = sample::lines(&report.samples, "cold");
    let names: Vec<&str> = lines.iter().map(|line| line.name.as_str()).collect();
    assert_eq!(
        names,
        ["kubectl answers", "command done", TOTAL, "idle CPU"]
    );
    assert_eq!(lines[2].summary.median, 75.0);
    assert_eq!(sample::variants(&report.samples), ["floor", "cold"]);
}

#[test]
fn the_text_has_rounds_medians_and_ratios() {
    let text = report::text(&measured());
    let row = |start: &str| -> Vec<&str> {
        let line = text.lines().find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("no {start} in\n{text}"))
            .split_ascii_whitespace()
            .collect()
    };
    assert_eq!(
        row("command done"),
        [
            "command", "done", "s", "50.00", "100.00", "75.00", "50.00", "to", "100.00"
        ]
    );
    assert_eq!(row("cold / floor")[3..], ["5.00", "5.00", "to", "5.00"]);
    assert!(text.contains("on: Some <CPU> & Co, 4 CPUs"), "{text}");
}

#[test]
fn the_json_can_be_read_again() {
    let mut report = measured();
    report.failures.push("kubeadm: no Go".into());
    let value = report::json(&report);
    assert_eq!(value["summaries"]["floor"]["total"]["median"], 15.0);
    assert_eq!(value["ratios"]["cold / floor"]["greatest"], 5.0);
    let again: Report = serde_json::from_value(value).unwrap();
    assert_eq!(again, report);
}

#[test]
fn the_picture_is_xml_with_a_bar_for_each_variant() {
    let svg = plot::svg(&measured()).unwrap();
    let document = roxmltree::Document::parse(&svg).unwrap();
    let of = |name: &str| {
        document
            .descendants()
            .filter(|n| n.has_tag_name(("http://www.w3.org/2000/svg", name)))
            .collect::<Vec<_>>()
    };
    // The ground, three stages, and as many in the legend.
    assert_eq!(of("rect").len(), 1 + 3 + 3);
    let texts: Vec<&str> = of("text").iter().filter_map(|n| n.text()).collect();
    for text in ["floor", "cold", "15.0 s", "75.0 s", "kubectl answers"] {
        assert!(texts.contains(&text), "{text} is not among {texts:?}");
    }
    for rect in of("rect") {
        let number = |name: &str| -> f64 { rect.attribute(name).unwrap_or("0").parse().unwrap() };
        assert!(number("width") >= 0.0 && number("x") + number("width") <= 880.0);
    }
    assert_eq!(plot::svg(&Report::new(json!({}))), None);
}

#[test]
fn marks_on_the_axis_are_round_and_few() {
    for (longest, step) in [
        (9.0, 1.0),
        (75.0, 10.0),
        (110.0, 20.0),
        (420.0, 50.0),
        (0.7, 0.1),
    ] {
        let got = plot::tick(longest);
        assert!((got - step).abs() < 1e-9, "{longest}: {got}");
    }
}

#[test]
fn figures_of_the_kernel_are_read() {
    let stat = "42 (qemu (x) y) S 1 42 42 0 -1 4194304 10 0 0 0 1500 250 0 0 20 0 9 0";
    assert_eq!(process::cpu_ticks(stat), Some(1750));
    assert_eq!(process::cpu_ticks("42 (qemu) S 1"), None);
    let io = "rchar: 10\nwchar: 20\nread_bytes: 4096\nwrite_bytes: 8192\n";
    assert_eq!(process::counter(io, "read_bytes"), Some(4096));
    assert_eq!(process::counter(io, "write"), None);
}
