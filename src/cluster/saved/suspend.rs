//! `kubby suspend`: saving a cluster's memory to disk and powering its machine off.

use std::fs;

use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::cluster::machine::Machine;
use crate::cluster::machine::host::Host;
use crate::cluster::saved::save::{Save, SaveReason};
use crate::cluster::saved::state::{Saved, SavedDir, Stamp};
use crate::cluster::saved::{garbage, identity, support};
use crate::error::Result;
use crate::fsutil;
use crate::hypervisor::State;
use crate::name::ProfileName;
use crate::units::human_bytes;

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
    let machine = Machine::of(&host, &cluster.profile)?;
    let step = env.progress.step(&format!("Suspend the cluster `{name}`"));
    if is_suspended(&cluster) && !machine.state()?.is_active() {
        step.skipped("it is suspended already");
        return Ok(false);
    }
    support::require(&host.info()?)?;
    let domain = machine.require_active()?;
    let dir = SavedDir::at(cluster.dir.suspended());
    fsutil::remove_all(&dir.root)?;
    let save = Save {
        env,
        machine: &machine,
        step: &step,
        reason: SaveReason::Suspend,
    };
    let saved = match save_and_end(&save, &mut cluster, &dir) {
        Ok(saved) => saved,
        Err(e) => {
            let _ = fsutil::remove_all(&dir.root);
            // A machine that was paused before stays paused; others continue.
            if domain.state != State::Paused {
                let _ = host.libvirt().resume(&domain.name);
            }
            return Err(e);
        }
    };
    let _shared = env.lock_shared()?;
    garbage::sweep(&host, None)?;
    let size = saved.memory.map_or(0, |memory| memory.allocated);
    step.done(human_bytes(size));
    Ok(true)
}

fn save_and_end(save: &Save<'_>, cluster: &mut Cluster, dir: &SavedDir) -> Result<Saved> {
    let keys = identity::keys_of_node(cluster);
    let mut saved = save.write(cluster, &keys, dir)?;
    save.machine.power_off()?;
    // QEMU's last writes to the disk belong to it.
    if let Some(stamp) = Stamp::of(&save.machine.host.file(&saved.disk)) {
        saved.disk_stamp = stamp;
    }
    dir.save(&saved)?;
    Ok(saved)
}
