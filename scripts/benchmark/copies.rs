//! Measures suspending a cluster, and forking a cluster under load.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kubby::testing::error::{Error, Kind, Result};
use kubby::testing::interrupt;
use serde_json::json;

use crate::observe::{self, APP, Observer, Prober};
use crate::sample::{Sample, Unit};
use crate::site::Site;
use crate::starts::START;

/// The pause between two writes.
const BETWEEN_WRITES: Duration = Duration::from_millis(20);
/// Writes before and after the fork.
const AT_WORK: Duration = Duration::from_secs(3);
const QUESTION: Duration = Duration::from_secs(30);

/// The stages of a cluster that comes back as it was.
const BACK: [observe::Stage; 3] = [observe::KUBECTL, observe::APP_RUNNING, observe::DNS_ANSWERS];

/// `kubby suspend`, then `kubby start`.
///
/// # Errors
/// Where this kubby has no such command, or a step fails.
pub fn suspend(site: &Site, round: u32) -> Result<Sample> {
    needs(site, "suspend")?;
    let profile = site.profile("suspend");
    let _alone = site.alone()?;
    let sample = site.start(&profile, &[]).and_then(|_| {
        let mut sample = Sample::new("suspend", round);
        let began = Instant::now();
        site.kubby(&profile, &["suspend"])?;
        let suspended = began.elapsed().as_secs_f64();
        let prober = Prober::of_profile(site.clusters_home(), &profile)?;
        let began = Instant::now();
        let observer = Observer::begin(prober, &BACK, began, site.limit(START));
        sample.report = site.start_again(&profile)?;
        sample.stage("command done", began.elapsed().as_secs_f64());
        observer.end(&mut sample)?;
        sample.total();
        sample.quantity("suspend itself", Unit::Seconds, suspended);
        Ok(sample)
    });
    finish(sample, || site.delete(&profile))
}

/// `kubby fork NEW` of a cluster whose application keeps what a writer sends it.
///
/// # Errors
/// Where this kubby has no such command, a step fails, or an acknowledged write is missing.
pub fn fork(site: &Site, round: u32) -> Result<Sample> {
    needs(site, "fork")?;
    let (source, copy) = (site.profile("source"), site.profile("fork"));
    let _alone = site.alone()?;
    let sample = site
        .start(&source, &[])
        .and_then(|_| forked(site, round, &source, &copy));
    finish(sample, || site.delete(&copy).and(site.delete(&source)))
}

fn forked(site: &Site, round: u32, source: &str, copy: &str) -> Result<Sample> {
    let mut sample = Sample::new("fork", round);
    let mut writer = Writer::new(Prober::of_profile(site.clusters_home(), source)?);
    let stop = AtomicBool::new(false);
    let (acknowledged, outcome) = std::thread::scope(|scope| {
        let written = scope.spawn(|| {
            writer.write_until(&stop);
            writer.acknowledged
        });
        let outcome = (|| {
            interrupt::sleep(AT_WORK)?;
            let prober = Prober::of_profile(site.clusters_home(), copy)?;
            let began = Instant::now();
            let observer = Observer::begin(prober, &BACK, began, site.limit(START));
            site.kubby(source, &["fork", copy])?;
            sample.stage("command done", began.elapsed().as_secs_f64());
            observer.end(&mut sample)?;
            interrupt::sleep(AT_WORK)?;
            Ok(began)
        })();
        stop.store(true, Ordering::Relaxed);
        (written.join().unwrap_or_default(), outcome)
    });
    let began: Instant = outcome?;
    sample.total();
    let gap = acknowledged
        .windows(2)
        .map(|pair| pair[1].1 - pair[0].1)
        .max()
        .unwrap_or_default();
    sample.quantity("longest pause of writes", Unit::Seconds, gap.as_secs_f64());
    sample.quantity("writes", Unit::Count, acknowledged.len() as f64);
    // What was acknowledged before the fork began must be in both, all of it in the source.
    let before = |at: Instant| move |(_, when): &&(u64, Instant)| *when < at;
    for (profile, until) in [(source, Instant::now()), (copy, began)] {
        let kept = kept(site, profile)?;
        let lost = acknowledged
            .iter()
            .filter(before(until))
            .filter(|(number, _)| !kept.contains(number))
            .count();
        if lost > 0 {
            return Err(Error::new(
                Kind::Unhealthy,
                format!("{lost} acknowledged writes are missing in `{profile}`"),
            ));
        }
    }
    Ok(sample)
}

/// Sends numbers to the application and remembers which were acknowledged when.
struct Writer {
    prober: Prober,
    acknowledged: Vec<(u64, Instant)>,
}

impl Writer {
    fn new(prober: Prober) -> Self {
        Writer {
            prober,
            acknowledged: Vec::new(),
        }
    }

    fn write_until(&mut self, stop: &AtomicBool) {
        let path = format!("{APP}writes");
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) && !interrupt::requested() {
            number += 1;
            let answer = self
                .prober
                .with(|api| api.merge_patch(&path, &json!(number)));
            if answer.is_some_and(|a| a.is_ok() && a.body == number.to_string()) {
                self.acknowledged.push((number, Instant::now()));
            }
            std::thread::sleep(BETWEEN_WRITES);
        }
    }
}

/// The numbers that the application of a cluster has kept.
fn kept(site: &Site, profile: &str) -> Result<BTreeSet<u64>> {
    let mut prober = Prober::of_profile(site.clusters_home(), profile)?;
    let end = Instant::now() + site.limit(QUESTION);
    loop {
        let answer = prober.with(|api| api.get(&format!("{APP}writes")));
        if let Some(answer) = answer.filter(kubby::testing::api::Answer::is_ok) {
            let lines = answer.body.lines();
            return Ok(lines.filter_map(|line| line.parse().ok()).collect());
        }
        if Instant::now() > end {
            let message = format!("the application of `{profile}` does not answer");
            return Err(Error::new(Kind::Unhealthy, message));
        }
        interrupt::sleep(Duration::from_millis(200))?;
    }
}

fn needs(site: &Site, command: &str) -> Result<()> {
    if site.has(command, None) {
        return Ok(());
    }
    Err(Error::new(Kind::State, "not in this build"))
}

/// What was measured, once what it was measured on is deleted.
fn finish(sample: Result<Sample>, delete: impl FnOnce() -> Result<()>) -> Result<Sample> {
    let deleted = delete();
    let sample = sample?;
    deleted.map(|()| sample)
}
