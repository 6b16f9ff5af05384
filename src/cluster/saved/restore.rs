//! Making a saved state a cluster's own, and waking the cluster from it.
//!
//! A cluster that is suspended, one that goes back to a snapshot and a fork are the same thing
//! before their next start: a disk, and a saved state in the folder `suspended` that fits it.
//! `start` takes that up; where it cannot, the cluster boots from its disk, as after a power cut.

use std::fs;

use crate::cluster::Access;
use crate::cluster::machine::resources::{self, Names};
use crate::cluster::saved::identity;
use crate::cluster::saved::load;
use crate::cluster::saved::state::{Saved, SavedDir, Stamp};
use crate::cluster::start::Start;
use crate::cluster::start::prepare::Prepared;
use crate::error::{Error, Kind, Result};
use crate::fsutil;
use crate::hypervisor::Hypervisor;
use crate::pki;
use crate::store::{ProfileDir, Store};
use crate::units::Mebibytes;

/// Whose a saved state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The cluster's own: it goes back to it.
    Own,
    /// Another cluster's: this one becomes a copy with an operator of its own.
    Anothers,
}

/// Makes a saved state the one that a cluster, which must be off, wakes from: a new layer over its
/// disk, its keys and certificates, and the profile's specification. The profile is saved; the
/// caller has it locked and does not hold the shared lock.
///
/// # Errors
/// [`Kind::Hypervisor`] when libvirt refuses, [`Kind::Internal`] when the file system does.
pub fn adopt(
    hypervisor: &dyn Hypervisor,
    store: &Store,
    access: &mut Access,
    saved: &Saved,
    from: &SavedDir,
    whose: Whose,
) -> Result<()> {
    let files = from.files();
    let disk = resources::disk_name(&access.profile.name);
    specify(access, saved);
    let names = Names::new(store, &access.profile);
    let size = Mebibytes(access.profile.disk_mib).bytes();
    let _shared = store.lock_shared(|| {})?;
    hypervisor.create_overlay(&names.pool, &disk, &saved.disk, size)?;
    fsutil::copy_private(&files.pki(), &access.dir.pki())?;
    if whose == Whose::Anothers {
        pki::forget_operator(&access.dir.pki())?;
    }
    fsutil::remove_all(&access.dir.addons())?;
    fsutil::copy_private(&files.addons(), &access.dir.addons())?;
    identity::copy_keys(&files, &ProfileDir::at(access.dir.handover()))?;
    access.profile.disk.clone_from(&disk);
    let waking = SavedDir::at(access.dir.suspended());
    fsutil::remove_all(&waking.root)?;
    if saved.memory.is_some() {
        let path = names.target.join(&disk);
        let stamp = Stamp::of(&path)
            .ok_or_else(|| Error::new(Kind::Hypervisor, format!("{} is gone", path.display())))?;
        fsutil::create_private_dir(&waking.root)?;
        waking.save(&Saved {
            disk,
            disk_stamp: stamp,
            ..saved.clone()
        })?;
    }
    access.profile.save(&access.dir)
}

/// Takes over what the machine was when it was saved.
fn specify(access: &mut Access, saved: &Saved) {
    let then = saved.profile.clone();
    let profile = &mut access.profile;
    profile.acceleration = then.acceleration;
    profile.kubernetes_version = then.kubernetes_version;
    profile.cpus = then.cpus;
    profile.memory_mib = then.memory_mib;
    profile.disk_mib = then.disk_mib;
    profile.kernel_args = then.kernel_args;
    profile.addons = then.addons;
    profile.assets = then.assets;
    profile.egress = then.egress;
}

impl Start<'_> {
    /// Wakes a suspended cluster. Returns `false` where it is not suspended, or cannot be woken:
    /// then it boots from its disk.
    pub(crate) fn wake(
        &self,
        hypervisor: &dyn Hypervisor,
        access: &mut Access,
        prepared: &Prepared,
    ) -> Result<bool> {
        let dir = SavedDir::at(access.dir.suspended());
        if !dir.root.exists() {
            return Ok(false);
        }
        let step = self.progress.step("Wake the node");
        let woken = match dir.load() {
            Ok(Some(saved)) => self.try_wake(hypervisor, access, prepared, &saved, &dir),
            Ok(None) => Err(Error::new(Kind::State, "its saved memory is not complete")),
            Err(e) => Err(e),
        };
        match woken {
            Ok(()) => {
                step.done("");
                Ok(true)
            }
            Err(e) if e.kind() == Kind::Interrupted => Err(e),
            Err(e) => {
                step.skipped("booting instead");
                self.progress.warn(&format!(
                    "the saved memory cannot be used ({e}); the node boots from its disk"
                ));
                fsutil::remove_all(&dir.root)?;
                Ok(false)
            }
        }
    }

    fn try_wake(
        &self,
        hypervisor: &dyn Hypervisor,
        access: &mut Access,
        prepared: &Prepared,
        saved: &Saved,
        dir: &SavedDir,
    ) -> Result<()> {
        let names = Names::new(self.store, &access.profile);
        if saved.disk != names.disk {
            return Err(Error::new(Kind::State, "it belongs to another disk"));
        }
        load::check(saved, &names, &prepared.host)?;
        resources::ensure_seed(hypervisor, &names, &access.dir, &[])?;
        self.free_ports(access)?;
        // From the first instruction on the disk goes its own way, and the memory fits no more.
        let consume = || fsutil::remove_all(&dir.root);
        load::start(
            hypervisor,
            self.store,
            access,
            prepared.acceleration,
            saved,
            consume,
        )
    }
}

/// Whether a cluster that is off waits to be woken.
pub fn is_suspended(access: &Access) -> bool {
    fs::exists(access.dir.suspended()).unwrap_or(false)
}
