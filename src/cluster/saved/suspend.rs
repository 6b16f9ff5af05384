//! Pausing a cluster in memory, and suspending it to the disk.

use crate::cluster::Access;
use crate::cluster::saved::garbage;
use crate::cluster::saved::identity;
use crate::cluster::saved::load;
use crate::cluster::saved::restore::is_suspended;
use crate::cluster::saved::save::{Capture, Purpose};
use crate::cluster::saved::state::{SavedDir, Stamp};
use crate::error::{Error, Kind, Result};
use crate::fsutil;
use crate::hypervisor::{Change, Domain, Hypervisor, Libvirt, Saving, State};
use crate::profile::ProfileName;
use crate::progress::Progress;
use crate::store::Store;

use crate::cluster::machine::resources::Names;

/// Stops the processors of a cluster's machine; its memory stays in the host's. Returns whether it
/// ran before.
///
/// # Errors
/// [`Kind::State`] where there is no such cluster or it does not run.
pub fn pause(store: &Store, name: &ProfileName, progress: &dyn Progress) -> Result<bool> {
    let _lock = crate::cluster::lock(store, name, progress)?;
    let access = Access::open(store, name)?;
    let hypervisor = Libvirt::open(&access.profile.connect)?;
    let domain = active(&hypervisor, &access)?;
    let step = progress.step(&format!("Pause the node of `{name}`"));
    let paused = hypervisor.pause(&domain.name)? == Change::Done;
    if paused {
        step.done("");
    } else {
        step.skipped("it is paused already");
    }
    Ok(paused)
}

/// Saves memory and devices of a cluster's machine to the disk and ends it; `start` takes it up
/// again. Returns whether it was not suspended before.
///
/// # Errors
/// [`Kind::State`] where there is no such cluster or it is stopped; [`Kind::Preflight`] where
/// machines cannot be saved, or there is no room. The machine runs on then.
pub fn suspend(store: &Store, name: &ProfileName, progress: &dyn Progress) -> Result<bool> {
    let _lock = crate::cluster::lock(store, name, progress)?;
    let mut access = Access::open(store, name)?;
    let hypervisor = Libvirt::open(&access.profile.connect)?;
    let step = progress.step(&format!("Suspend the node of `{name}`"));
    let names = Names::new(store, &access.profile);
    let found = hypervisor.find(&names.domain)?;
    if is_suspended(&access) && !found.is_some_and(|domain| domain.state.is_active()) {
        step.skipped("it is suspended already");
        return Ok(false);
    }
    load::require(&hypervisor.host()?)?;
    let domain = active(&hypervisor, &access)?;
    let dir = SavedDir::at(access.dir.suspended());
    fsutil::remove_all(&dir.root)?;
    let capture = Capture {
        hypervisor: &hypervisor,
        store,
        step: &step,
    };
    let keys = identity::keys_of_node(&access);
    let taken = capture.take(&mut access, &keys, Purpose::Suspend, &dir);
    let ended = taken.and_then(|mut saved| {
        hypervisor.destroy(&domain.name)?;
        // What QEMU wrote to the disk on its way out belongs to it.
        if let Some(stamp) = Stamp::of(&names.target.join(&saved.disk)) {
            saved.disk_stamp = stamp;
        }
        dir.save(&saved)?;
        Ok(saved)
    });
    let saved = match ended {
        Ok(saved) => saved,
        Err(e) => {
            let _ = fsutil::remove_all(&dir.root);
            // One that was paused before stays so; the others go on.
            if domain.state != State::Paused {
                let _ = hypervisor.resume(&domain.name);
            }
            return Err(e);
        }
    };
    let _shared = store.lock_shared(|| {})?;
    garbage::sweep(&hypervisor, store, &names.pool, None)?;
    let size = saved.memory.map_or(0, |memory| memory.allocated);
    step.done(crate::units::human_bytes(size));
    Ok(true)
}

/// The state of a cluster that `resume` is asked for.
///
/// # Errors
/// [`Kind::State`] where there is no such cluster or it is neither paused, suspended nor running.
pub fn check_resumable(store: &Store, name: &ProfileName) -> Result<()> {
    let access = Access::open(store, name)?;
    if is_suspended(&access) {
        return Ok(());
    }
    let hypervisor = Libvirt::open(&access.profile.connect)?;
    active(&hypervisor, &access).map(drop)
}

/// The cluster's machine, which has to run or to be paused.
fn active(hypervisor: &dyn Hypervisor, access: &Access) -> Result<Domain> {
    let name = &access.profile.name;
    let domain = hypervisor.find(&name.resource_name())?;
    match domain {
        Some(domain) if domain.uuid != access.profile.uuid()? => Err(Error::new(
            Kind::State,
            format!("the domain `{}` in libvirt is not kubby's", domain.name),
        )),
        Some(domain) if domain.state.is_active() => Ok(domain),
        _ => Err(
            Error::new(Kind::State, format!("the cluster `{name}` does not run"))
                .with_hint(format!("kubby start{}", name.flag())),
        ),
    }
}
