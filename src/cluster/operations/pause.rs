//! `kubby pause`: stopping the CPUs of a cluster's machines, whose memory stays allocated.

use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::cluster::machine::Machine;
use crate::cluster::machine::host::Host;
use crate::cluster::saved::suspend;
use crate::error::Result;
use crate::hypervisor::{Change, Domain};
use crate::name::ProfileName;

/// Pauses a cluster. Returns whether it was running.
///
/// # Errors
/// [`crate::error::Kind::State`] if the cluster does not exist or is not running.
pub(crate) fn pause(env: &Env<'_>, name: &ProfileName) -> Result<bool> {
    let (cluster, _lock) = Cluster::open_locked(env, name)?;
    let host = Host::open(env, &cluster.profile.connect)?;
    let machines = Machine::all(&host, &cluster.profile)?;
    let domains = machines.iter().map(Machine::find);
    let mut domains: Vec<Domain> = domains
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect();
    domains.retain(|domain| domain.state.is_active());
    if domains.is_empty() {
        machines[0].require_active()?;
    }
    let step = env.progress.step(&format!("Pause the cluster `{name}`"));
    let mut paused = false;
    for domain in &domains {
        paused |= host.libvirt().pause(&domain.name)? == Change::Done;
    }
    if paused {
        step.done("");
    } else {
        step.skipped("it is paused already");
    }
    Ok(paused)
}

/// Checks that `resume` can do something: the cluster is paused, suspended or running.
///
/// # Errors
/// [`crate::error::Kind::State`] otherwise.
pub(crate) fn check_resumable(env: &Env<'_>, name: &ProfileName) -> Result<()> {
    let cluster = Cluster::open(env.store, name)?;
    if suspend::is_suspended(&cluster) {
        return Ok(());
    }
    let host = Host::open(env, &cluster.profile.connect)?;
    Machine::of(&host, &cluster.profile)?
        .require_active()
        .map(drop)
}
