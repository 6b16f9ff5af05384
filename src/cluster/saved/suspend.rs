//! `kubby suspend`: saving a cluster's memory to disk and powering its machines off.

use std::fs;

use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::cluster::machine::Machine;
use crate::cluster::machine::host::Host;
use crate::cluster::saved::save::{Save, SaveReason, Written};
use crate::cluster::saved::state::{SavedDir, Stamp};
use crate::cluster::saved::{garbage, support};
use crate::endpoint::Endpoint;
use crate::error::Result;
use crate::fsutil;
use crate::hypervisor::{Domain, State};
use crate::name::ProfileName;

/// Returns whether a cluster that is off has saved memory to resume from.
pub(crate) fn is_suspended(cluster: &Cluster) -> bool {
    fs::exists(cluster.dir.suspended()).unwrap_or(false)
}

/// Suspends a cluster; `start` resumes it. Returns whether it was not suspended before.
///
/// # Errors
/// [`crate::error::Kind::State`] if the cluster does not exist or is stopped;
/// [`crate::error::Kind::Preflight`] if machines cannot be saved here, or there is no room. The machine
/// keeps running then.
pub(crate) fn suspend(env: &Env<'_>, name: &ProfileName) -> Result<bool> {
    let (mut cluster, _lock) = Cluster::open_locked(env, name)?;
    let host = Host::open(env, &cluster.profile.connect)?;
    let machines = Machine::all(&host, &cluster.profile)?;
    let step = env.progress.step(&format!("Suspend the cluster `{name}`"));
    let domains = machines
        .iter()
        .map(Machine::find)
        .collect::<Result<Vec<_>>>()?;
    let active: Vec<Domain> = domains
        .into_iter()
        .flatten()
        .filter(|d| d.state.is_active())
        .collect();
    if is_suspended(&cluster) && active.is_empty() {
        Endpoint::of(&cluster.dir).stop()?;
        step.skipped("it is suspended already");
        return Ok(false);
    }
    support::require(&host.info()?)?;
    if active.is_empty() {
        machines[0].require_active()?;
    }
    support::require_disks(&cluster, &machines)?;
    let dir = SavedDir::at(cluster.dir.suspended());
    fsutil::remove_all(&dir.root)?;
    let save = Save {
        env,
        machines: machines.iter().enumerate().collect(),
        step: &step,
        reason: SaveReason::Suspend,
    };
    let written = match save_and_end(&save, &mut cluster, &dir) {
        Ok(written) => written,
        Err(e) => {
            let _ = fsutil::remove_all(&dir.root);
            // A machine that was paused before stays paused; others continue.
            for domain in active.iter().filter(|domain| domain.state != State::Paused) {
                let _ = host.libvirt().resume(&domain.name);
            }
            return Err(e);
        }
    };
    Endpoint::of(&cluster.dir).stop()?;
    let _shared = env.lock_shared()?;
    garbage::sweep(&host, None)?;
    step.done(written.summary());
    Ok(true)
}

fn save_and_end(save: &Save<'_>, cluster: &mut Cluster, dir: &SavedDir) -> Result<Written> {
    let mut written = save.write(cluster, dir)?;
    for (_, machine) in &save.machines {
        machine.power_off()?;
    }
    for ((_, machine), saved) in save.machines.iter().zip(&mut written.parts) {
        // QEMU's last writes to the disk belong to it.
        if let Some(stamp) = Stamp::of(&machine.host.file(&saved.disk)) {
            saved.disk_stamp = stamp;
        }
    }
    dir.save_all(&written.parts)?;
    Ok(written)
}
