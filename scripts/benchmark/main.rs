//! Measures kubby: the floor under every start, cold and warm starts, kubeadm beside them, what a
//! node costs. `scripts/bench --help` lists the flags; docs/performance.md explains the figures.

mod app;
mod archive;
mod copies;
mod kubeadm;
mod links;
mod machine;
mod nodes;
mod observe;
mod plot;
mod process;
mod report;
mod sample;
mod site;
mod starts;
mod stats;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use kubby::testing::error::{Error, Kind, Result, ResultExt};
use kubby::testing::{interrupt, ui};

use kubeadm::Yardstick;
use nodes::Nodes;
use report::Report;
use sample::{Sample, TOTAL};
use site::{Site, Wishes};
use starts::Warm;

/// Measure starts of kubby's clusters, and what to compare them with.
///
/// Machines are noisy: compare ratios within one run, not seconds of two.
#[derive(Debug, Parser)]
#[command(name = "scripts/bench", max_term_width = 100)]
struct Args {
    /// How often each is measured
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Measure only these [default: all that this kubby can do]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT,…")]
    only: Vec<What>,
    /// How to print the results
    #[arg(long, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    output: Output,
    /// Draw the medians as well
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Measure nothing: read what `--output json` printed before
    #[arg(long, value_name = "FILE.json", conflicts_with_all = ["only", "start_flags"])]
    from: Option<PathBuf>,
    /// Virtual CPUs of each node [default: those of the host, up to 4]
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// Memory of each node in MiB [default: 4096, less on small hosts]
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
    /// Lock this file (as flock does) while something is measured, so that others can wait
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Flags for each `kubby start`
    #[arg(last = true, value_name = "FLAGS")]
    start_flags: Vec<String>,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Power-on to SSH of the same machine, without Kubernetes
    Floor,
    /// A start from cached assets
    Cold,
    /// A start from a warm template
    Warm,
    /// `kubeadm init` in the same machine
    Kubeadm,
    /// A cluster that was suspended
    Suspend,
    /// A fork of a cluster under load
    Fork,
    /// Clusters of three nodes, and one node more
    Nodes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match interrupt::install().and_then(|()| run(&args)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            ui::show_error(&e);
            ExitCode::from(e.kind().exit_code())
        }
    }
}

/// Whether everything that was asked for was measured.
fn run(args: &Args) -> Result<bool> {
    let report = match &args.from {
        Some(file) => read(file)?,
        None => measure(args)?,
    };
    if let (Some(file), Some(svg)) = (&args.plot, plot::svg(&report)) {
        std::fs::write(file, svg)
            .context(Kind::Usage, || format!("cannot write {}", file.display()))?;
    }
    match args.output {
        Output::Text => ui::print(&report::text(&report))?,
        Output::Json => ui::print(&format!("{:#}\n", report::json(&report)))?,
    }
    interrupt::check()?;
    Ok(report.failures.is_empty())
}

fn read(file: &Path) -> Result<Report> {
    let fail = || format!("cannot read {}", file.display());
    let text = std::fs::read(file).context(Kind::Usage, fail)?;
    serde_json::from_slice(&text).context(Kind::Usage, fail)
}

fn measure(args: &Args) -> Result<Report> {
    let wishes = Wishes {
        cpus: args.cpus,
        memory_mib: args.memory,
        lock: args.lock.clone(),
        start_flags: args.start_flags.clone(),
    };
    let site = Site::new(wishes)?;
    let mut run = Run {
        report: Report::new(site.facts()),
        site: &site,
        args,
    };
    run.all();
    Ok(run.report)
}

/// A run of the benchmark. Failures are recorded, and the run continues.
struct Run<'a> {
    site: &'a Site,
    args: &'a Args,
    report: Report,
}

impl Run<'_> {
    fn wants(&self, what: What) -> bool {
        self.args.only.is_empty() || self.args.only.contains(&what)
    }

    fn all(&mut self) {
        let site = self.site;
        let yardstick = self
            .wants(What::Kubeadm)
            .then(|| self.prepared("kubeadm", || Yardstick::prepare(site)))
            .flatten();
        let mut warm = None;
        if self.can(What::Warm, starts::available(site)) {
            warm = self.prepared("warm", || Warm::prepare(site));
        }
        let mut three = None;
        if self.can(What::Nodes, nodes::available(site)) {
            three = self.prepared("nodes", || Nodes::prepare(site));
        }
        let suspend = self.can(What::Suspend, site.has("suspend", None));
        let fork = self.can(What::Fork, site.has("fork", None));
        for round in 1..=self.args.rounds {
            if self.wants(What::Floor) {
                self.one("floor", round, || starts::floor(site, round));
            }
            if self.wants(What::Cold) {
                self.one("cold", round, || starts::cold(site, round));
            }
            if let Some(warm) = &warm {
                self.one("warm", round, || warm.clone_one(round));
            }
            if let Some(yardstick) = &yardstick {
                self.one("kubeadm", round, || yardstick.measure(round));
            }
            if suspend {
                self.one("suspend", round, || copies::suspend(site, round));
            }
            if fork {
                self.one("fork", round, || copies::fork(site, round));
            }
            if let Some(three) = &three {
                self.one("3 nodes cold", round, || three.cold(round));
                self.several("3 nodes", || three.warm(round));
            }
        }
        if let Some(warm) = &warm {
            self.several("ten in a row", || warm.one_after_the_other());
            self.several("side by side", || warm.side_by_side());
        }
    }

    /// Returns whether to measure something that not every kubby can do. If it was requested by name and
    /// is not possible, reports it.
    fn can(&mut self, what: What, there: bool) -> bool {
        if self.wants(what) && !there {
            let name = what.to_possible_value();
            let name = name.as_ref().map_or("it", |value| value.get_name());
            ui::say(&format!("{name}: not in this build"));
            if self.args.only.contains(&what) {
                self.report
                    .failures
                    .push(format!("{name}: not in this build"));
            }
        }
        self.wants(what) && there
    }

    fn prepared<T>(&mut self, what: &str, prepare: impl FnOnce() -> Result<T>) -> Option<T> {
        if interrupt::requested() {
            return None;
        }
        ui::say(&format!("{what}: preparing (not measured)"));
        prepare()
            .map_err(|e| self.failed(&format!("{what}: preparing"), &e))
            .ok()
    }

    fn one(&mut self, what: &str, round: u32, measure: impl FnOnce() -> Result<Sample>) {
        let title = format!("{what}, round {round} of {}", self.args.rounds);
        self.measured(&title, || measure().map(|sample| vec![sample]));
    }

    fn several(&mut self, what: &str, measure: impl FnOnce() -> Result<Vec<Sample>>) {
        self.measured(what, measure);
    }

    fn measured(&mut self, title: &str, measure: impl FnOnce() -> Result<Vec<Sample>>) {
        if interrupt::requested() {
            return;
        }
        ui::say(&format!("{title} …"));
        match measure() {
            Ok(samples) => {
                for sample in &samples {
                    let total = sample.get(TOTAL).unwrap_or_default();
                    ui::say(&format!("{title}: {total:.1} s"));
                }
                self.report.samples.extend(samples);
            }
            Err(e) => self.failed(title, &e),
        }
    }

    fn failed(&mut self, title: &str, error: &Error) {
        if error.kind() == Kind::Interrupted {
            return;
        }
        ui::show_error(error);
        self.report
            .failures
            .push(format!("{title}: {}", error.message()));
    }
}
