//! Preparing a cluster to start from a saved state.
//!
//! A suspended cluster, one that goes back to a snapshot, and a fork are the same before their next
//! start: a disk, and a saved state in the folder `suspended` that fits it. `start` resumes from that;
//! where it cannot, the cluster boots from its disk, as after a power cut.

use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::cluster::machine::host::Host;
use crate::cluster::machine::{keys, names};
use crate::cluster::saved::state::{Saved, SavedDir, Stamp};
use crate::cluster::template_key;
use crate::error::Result;
use crate::fsutil;
use crate::pki;
use crate::units::Mebibytes;

/// Makes a cluster, which is off, ready to resume from a saved state: a new layer over its disk, its
/// keys and certificates, and the settings of the profile, which is saved. From a state of another cluster
/// it becomes a copy with an operator of its own. The caller has locked the cluster and does not hold the
/// shared lock.
///
/// # Errors
/// [`Kind::Hypervisor`](crate::error::Kind::Hypervisor) when libvirt refuses, [`Kind::Internal`](crate::error::Kind::Internal) when the file system does.
pub(crate) fn restore(
    env: &Env<'_>,
    host: &Host<'_>,
    cluster: &mut Cluster,
    saved: &Saved,
    from: &SavedDir,
) -> Result<()> {
    let files = from.files();
    let disk = names::new_disk(cluster.name());
    template_key::take_over(&mut cluster.profile, &saved.profile);
    let size = Mebibytes(cluster.profile.first().machine.disk_mib);
    let _shared = env.lock_shared()?;
    host.ensure_pool()?;
    host.create_overlay(&disk, &saved.disk, size)?;
    fsutil::copy_private(&files.pki(), &cluster.dir.pki())?;
    if saved.profile.name != *cluster.name() {
        pki::forget_operator(&cluster.dir.pki())?;
    }
    fsutil::remove_all(&cluster.dir.addons())?;
    fsutil::copy_private(&files.addons(), &cluster.dir.addons())?;
    keys::hand_over(&cluster.dir, |to| keys::copy(&files, to))?;
    cluster.profile.first_mut().disk.clone_from(&disk);
    let resumed = SavedDir::at(cluster.dir.suspended());
    fsutil::remove_all(&resumed.root)?;
    if saved.memory.is_some() {
        let disk_stamp = Stamp::require(&host.file(&disk))?;
        fsutil::create_private_dir(&resumed.root)?;
        resumed.save(&Saved {
            disk,
            disk_stamp,
            ..saved.clone()
        })?;
    }
    cluster.save()
}
