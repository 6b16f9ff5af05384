//! Measures clusters of three control planes, and how long kubectl does not answer when one of them dies.

use std::time::{Duration, Instant};

use kubby::testing::error::{Error, Kind, Result};
use kubby::testing::interrupt;

use crate::nodes::timed;
use crate::observe::{KUBECTL, Prober};
use crate::process::Qemu;
use crate::sample::{Sample, Unit};
use crate::site::Site;

/// The flags of three control planes.
const THREE: [&str; 2] = ["--control-planes", "3"];

/// The name of the cluster that the measured one is a copy of.
const FIRST: &str = "planes-first";

/// The time for kubectl to answer again, with hardware virtualisation.
const ANSWERS: Duration = Duration::from_secs(30);

/// The pause before a control plane dies, in which the cluster settles.
const SETTLE: Duration = Duration::from_secs(10);

/// Returns whether this kubby has clusters of several control planes.
pub fn available(site: &Site) -> bool {
    site.has("start", Some("--control-planes"))
}

/// Three control planes that boot, the same from a template, and the death of each.
///
/// # Errors
/// When one of these is not ready in time.
pub fn measure(site: &Site, round: u32) -> Result<Vec<Sample>> {
    let _alone = site.alone()?;
    let mut samples = Vec::new();
    if round == 1 {
        // Its template is what the others are copies of.
        let first = site.profile(FIRST);
        let cold = timed("3 control planes cold", round, || {
            site.start(&first, &THREE)
        });
        let deleted = site.delete(&first);
        samples.push(cold?);
        deleted?;
    }
    let profile = site.profile("planes");
    let measured = copy(site, round, &profile);
    let deleted = site.delete(&profile);
    samples.extend(measured?);
    deleted.map(|()| samples)
}

fn copy(site: &Site, round: u32, profile: &str) -> Result<[Sample; 2]> {
    let warm = timed("3 control planes warm", round, || {
        site.start(profile, &THREE)
    })?;
    let mut deaths = Sample::new("control plane dies", round);
    let first = Site::domain(profile);
    let domain_of = |node: &str| format!("{first}.{node}");
    for (node, domain) in [
        ("the first", first.clone()),
        ("the second", domain_of("control-plane-2")),
        ("the third", domain_of("control-plane-3")),
    ] {
        let mut prober = Prober::of_profile(site.clusters_home(), profile)?;
        interrupt::sleep(SETTLE)?;
        let began = Instant::now();
        Qemu::of(&domain)
            .and_then(|qemu| qemu.kill().ok())
            .ok_or_else(|| Error::new(Kind::Internal, format!("there is no domain {domain}")))?;
        prober.wait(&[KUBECTL], began, began + site.limit(ANSWERS))?;
        let answered = began.elapsed().as_secs_f64();
        deaths.stage(&format!("{node}: kubectl answers"), answered);
        let began = Instant::now();
        site.start_again(profile)?;
        let again = began.elapsed().as_secs_f64();
        deaths.quantity(&format!("{node}: started again"), Unit::Seconds, again);
    }
    deaths.total();
    Ok([warm, deaths])
}
