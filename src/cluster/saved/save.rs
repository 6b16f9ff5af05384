//! Saving a cluster as it is at this moment, into a saved state.

use std::fs;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::cluster::machine::{Machine, domain, keys, names};
use crate::cluster::saved::garbage::{UNFINISHED, Unfinished};
use crate::cluster::saved::identity;
use crate::cluster::saved::state::{self, FORMAT, HostMark, Memory, Saved, SavedDir, Stamp};
use crate::error::{Error, Kind, Result, ResultExt};
use crate::fault;
use crate::fsutil;
use crate::hypervisor::{Hypervisor, State, saved_stream};
use crate::progress::Step;
use crate::store::ProfileDir;
use crate::units::Mebibytes;

/// The space that stays free on the disk beside a saved state.
const SPARE: Mebibytes = Mebibytes(64);

/// The reason for saving, which decides about the disk and the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SaveReason {
    /// For later, perhaps for many loads: the disk is frozen, the cluster continues in a new layer, and
    /// the files get digests.
    Keep,
    /// The same, for one load at once.
    Fork,
    /// For the same cluster: the disk stays as it is, and the machine stays paused until it is ended.
    Suspend,
}

/// Saves a cluster.
pub(crate) struct Save<'a> {
    pub(crate) env: &'a Env<'a>,
    pub(crate) machine: &'a Machine<'a>,
    pub(crate) step: &'a Step,
    pub(crate) reason: SaveReason,
}

/// Resumes a machine when it is dropped.
struct Paused<'a> {
    libvirt: &'a dyn Hypervisor,
    domain: &'a str,
    resume: bool,
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        if self.resume && !fault::is_killed() {
            let _ = self.libvirt.resume(self.domain);
        }
    }
}

impl Save<'_> {
    /// Saves a cluster that runs or is stopped into a folder that does not exist yet. `keys` is the
    /// folder with the keys that the node has at this moment.
    ///
    /// # Errors
    /// [`Kind::Preflight`] when there is no room, [`Kind::Hypervisor`] when libvirt or QEMU refuses;
    /// the cluster is as before then, and nothing half-made is left.
    pub(crate) fn write(
        &self,
        cluster: &mut Cluster,
        keys: &ProfileDir,
        into: &SavedDir,
    ) -> Result<Saved> {
        let host = self.machine.host;
        let state = self.machine.state()?;
        if let Some(disk) = self.machine.disk()? {
            cluster.profile.first_mut().disk = disk;
        }
        // No other process knows the files until the manifest is there: a sweep has to wait.
        let _shared = self.env.lock_shared()?;
        if !host.has_own_pool()? {
            return Err(Error::state("the cluster has no storage pool"));
        }
        let partial = into.root.with_extension(UNFINISHED);
        fsutil::remove_all(&partial)?;
        let mut unfinished = Unfinished(vec![partial.clone()]);
        stage(&cluster.dir, keys, &partial)?;
        let profile = cluster.profile.clone();
        let frozen = profile.first().disk.clone();
        let id = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
        let memory = if state.is_active() {
            let files = state::file_names(&id).map(|name| host.file(&name));
            unfinished.0.extend(files.iter().cloned());
            Some(self.memory(cluster, state, &files)?)
        } else {
            if self.reason != SaveReason::Suspend {
                self.freeze_off(cluster)?;
            }
            None
        };
        let saved = Saved {
            format: FORMAT,
            id,
            created: OffsetDateTime::now_utc().unix_timestamp(),
            host: HostMark::of(&host.info()?),
            memory,
            disk_stamp: Stamp::require(&host.file(&frozen))?,
            disk: frozen,
            profile,
        };
        SavedDir::at(partial.clone()).save(&saved)?;
        fsutil::rename(&partial, &into.root).context(Kind::Internal, || {
            format!("cannot move the saved state to {}", into.root.display())
        })?;
        unfinished.0.clear();
        Ok(saved)
    }

    /// Saves memory, devices and disk of a machine that runs or is paused.
    fn memory(&self, cluster: &mut Cluster, state: State, files: &[PathBuf; 2]) -> Result<Memory> {
        let (host, libvirt) = (self.machine.host, self.machine.host.libvirt());
        let domain = &self.machine.names.domain;
        // The memory takes at most its whole size; pages of zeros take nothing.
        let memory = Mebibytes(cluster.profile.first().machine.memory_mib);
        host.require_room(
            memory.bytes() + SPARE.bytes(),
            "to save the machine's memory",
        )?;
        let [pages, devices] = files;
        libvirt.create_state_file(pages)?;
        libvirt.create_state_file(devices)?;
        self.step.detail("memory");
        let mut paused = Paused {
            libvirt,
            domain,
            resume: state != State::Paused,
        };
        libvirt.pause(domain)?;
        if self.reason != SaveReason::Suspend {
            self.freeze(cluster)?;
        }
        libvirt.save_memory(domain, pages)?;
        paused.resume &= self.reason != SaveReason::Suspend;
        let continues = paused.resume;
        drop(paused);
        if continues {
            identity::correct_clock(self.env, self.machine, cluster);
        }
        self.step.detail("checksums");
        describe(pages, devices, self.reason != SaveReason::Fork)
    }

    /// Lets the machine, which is paused, continue in a new layer over its disk.
    fn freeze(&self, cluster: &mut Cluster) -> Result<()> {
        let overlay = names::new_disk(cluster.name());
        let machine = self.machine;
        let path = machine.host.file(&overlay);
        machine
            .host
            .libvirt()
            .switch_disk(&machine.names.domain, &path)?;
        cluster.profile.first_mut().disk = overlay;
        cluster.save()
    }

    /// Gives a machine that is off a new layer over its disk. The disk in the domain's definition
    /// counts, so that is changed before the profile.
    fn freeze_off(&self, cluster: &mut Cluster) -> Result<()> {
        let overlay = names::new_disk(cluster.name());
        let host = self.machine.host;
        let node = cluster.profile.first_mut();
        let size = Mebibytes(node.machine.disk_mib);
        host.create_overlay(&overlay, &node.disk, size)?;
        node.disk = overlay;
        domain::define(self.machine, &cluster.profile, cluster.acceleration())?;
        cluster.save()
    }
}

/// Copies the files that a cluster has beside its machine: keys, certificates, the user's own add-ons.
fn stage(from: &ProfileDir, from_keys: &ProfileDir, to: &Path) -> Result<()> {
    let to = ProfileDir::at(to.to_owned());
    fsutil::create_private_dir(to.root())?;
    fsutil::copy_private(&from.pki(), &to.pki())?;
    fsutil::copy_private(&from.addons(), &to.addons())?;
    keys::copy(from_keys, &to)
}

/// Makes the devices' file from QEMU's stream, and describes both files.
fn describe(pages: &Path, devices: &Path, digests: bool) -> Result<Memory> {
    let fail = |what: &str, path: &Path| format!("cannot {what} {}", path.display());
    let mut stream = fs::File::open(pages).context(Kind::Internal, || fail("read", pages))?;
    let layout =
        saved_stream::layout(&mut stream).context(Kind::Hypervisor, || fail("use", pages))?;
    let mut to = fs::OpenOptions::new()
        .write(true)
        .open(devices)
        .context(Kind::Internal, || fail("write", devices))?;
    saved_stream::write_devices(&mut stream, &layout, &mut to)
        .context(Kind::Internal, || fail("write", devices))?;
    drop(to);
    let digest = |path: &Path| {
        let digest = || state::digest_pages(path).context(Kind::Internal, || fail("read", path));
        digests.then(digest).transpose()
    };
    Ok(Memory {
        offset: layout.pages,
        length: layout.length,
        digest: digest(pages)?,
        stamp: Stamp::require(pages)?,
        devices_digest: digest(devices)?,
        devices_stamp: Stamp::require(devices)?,
        allocated: state::allocated(pages) + state::allocated(devices),
    })
}
