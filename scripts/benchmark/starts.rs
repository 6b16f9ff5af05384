//! The floor, and cold and warm starts.

use std::time::{Duration, Instant};

use kubby::testing::error::{Error, Kind, Result};
use kubby::testing::hypervisor::Hypervisor;

use crate::machine::{Machine, Payload};
use crate::observe::{self, Observer, Prober};
use crate::process;
use crate::sample::{Sample, Unit};
use crate::site::Site;

/// A whole start with hardware virtualisation.
pub const START: Duration = Duration::from_secs(150);

/// The numbers of copies one after the other, and in parallel.
const SERIES: u32 = 10;
const SIDE_BY_SIDE: u32 = 4;

/// Power-on to the first SSH session, no Kubernetes.
///
/// # Errors
/// When the machine does not boot.
pub fn floor(site: &Site, round: u32) -> Result<Sample> {
    let mut sample = Sample::new("floor", round);
    let _alone = site.alone()?;
    let machine = Machine::boot(site, "floor", &Payload::None)?;
    sample.stage("SSH answers", machine.boot.as_secs_f64());
    sample.total();
    Ok(sample)
}

/// A start from nothing but cached assets, with the application, and what the node costs then.
///
/// # Errors
/// When it does not get there.
pub fn cold(site: &Site, round: u32) -> Result<Sample> {
    let profile = site.profile("cold");
    let mut flags = Vec::new();
    if site.has("start", Some("--no-template")) {
        flags.push("--no-template");
    }
    let _alone = site.alone()?;
    let sample = one(site, "cold", round, &profile, &flags, true);
    let deleted = site.delete(&profile);
    let sample = sample?;
    deleted?;
    Ok(sample)
}

/// One start, watched; `idle` says whether to wait for what the idle node costs.
fn one(
    site: &Site,
    variant: &str,
    round: u32,
    profile: &str,
    flags: &[&str],
    idle: bool,
) -> Result<Sample> {
    let mut sample = Sample::new(variant, round);
    let domain = Site::domain(profile);
    rustix::fs::sync();
    let before = process::available_memory();
    let prober = Prober::of_profile(site.clusters_home(), profile)?;
    let began = Instant::now();
    let observer = Observer::begin(prober, &observe::ALL, began, site.limit(START));
    let report = site.start(profile, flags);
    let done = began.elapsed();
    sample.report = report?;
    sample.stage("command done", done.as_secs_f64());
    observer.end(&mut sample)?;
    sample.total();
    process::start_cost(&domain, &mut sample);
    if idle {
        process::idle_cost(&domain, before, &mut sample)?;
        if let Some(disk) = site.disk(&domain) {
            sample.quantity("disk of the node", Unit::Mebibytes, disk);
        }
    }
    Ok(sample)
}

/// Starts from a warm template.
pub struct Warm<'a> {
    site: &'a Site,
}

impl<'a> Warm<'a> {
    /// Makes the template; not measured.
    ///
    /// # Errors
    /// When kubby cannot make one, or the first start fails.
    pub fn prepare(site: &'a Site) -> Result<Self> {
        if !available(site) {
            return Err(Error::new(Kind::State, "not in this build"));
        }
        let profile = site.profile("first");
        let _alone = site.alone()?;
        site.start(&profile, &[])?;
        site.delete(&profile)?;
        Ok(Warm { site })
    }

    /// One clone, and what it costs.
    ///
    /// # Errors
    /// When it does not get there.
    pub fn clone_one(&self, round: u32) -> Result<Sample> {
        let profile = self.site.profile("warm");
        let _alone = self.site.alone()?;
        let sample = one(self.site, "warm", round, &profile, &[], true);
        let deleted = self.site.delete(&profile);
        let sample = sample?;
        deleted?;
        Ok(sample)
    }

    /// Ten clones, each deleted before the next.
    ///
    /// # Errors
    /// When one does not get there.
    pub fn one_after_the_other(&self) -> Result<Vec<Sample>> {
        let profile = self.site.profile("series");
        let _alone = self.site.alone()?;
        (1..=SERIES)
            .map(|round| {
                let sample = one(self.site, "ten in a row", round, &profile, &[], false);
                let deleted = self.site.delete(&profile);
                let sample = sample?;
                deleted.map(|()| sample)
            })
            .collect()
    }

    /// Four clones at the same time, and what each costs beside the others.
    ///
    /// # Errors
    /// When one does not get there.
    pub fn side_by_side(&self) -> Result<Vec<Sample>> {
        let _alone = self.site.alone()?;
        let profile = |round: u32| self.site.profile(&format!("side{round}"));
        let before = process::available_memory();
        let samples: Vec<Result<Sample>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (1..=SIDE_BY_SIDE)
                .map(|round| {
                    scope.spawn(move || {
                        one(
                            self.site,
                            "side by side",
                            round,
                            &profile(round),
                            &[],
                            false,
                        )
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| {
                    let broke = |_| Err(Error::new(Kind::Internal, "a start broke"));
                    thread.join().unwrap_or_else(broke)
                })
                .collect()
        });
        let mut samples: Result<Vec<Sample>> = samples.into_iter().collect();
        if let Ok(samples) = &mut samples {
            let lost = before.zip(process::available_memory()).map(|(b, a)| b - a);
            for sample in samples.iter_mut() {
                let domain = Site::domain(&profile(sample.round));
                if let Some(memory) = process::Qemu::of(&domain).and_then(|q| q.memory()) {
                    sample.quantity("memory of QEMU", Unit::Mebibytes, memory);
                }
                if let Some(lost) = lost {
                    let each = lost / f64::from(SIDE_BY_SIDE);
                    sample.quantity("memory of the host, each", Unit::Mebibytes, each);
                }
            }
        }
        let deleted: Result<Vec<()>> = (1..=SIDE_BY_SIDE)
            .filter(|round| {
                let domain = Site::domain(&profile(*round));
                matches!(self.site.hypervisor.find(&domain), Ok(Some(_)))
            })
            .map(|round| self.site.delete(&profile(round)))
            .collect();
        let samples = samples?;
        deleted?;
        Ok(samples)
    }
}

/// Whether this kubby has warm templates.
pub fn available(site: &Site) -> bool {
    site.has("template", None)
}
