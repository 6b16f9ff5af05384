//! Saving a cluster as it is at this moment, into a saved state.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cluster::Access;
use crate::cluster::machine::resources::{self, Names};
use crate::cluster::saved::identity;
use crate::cluster::saved::state::{self, FORMAT, HostMark, Memory, Saved, SavedDir, Stamp};
use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil;
use crate::hypervisor::{Hypervisor, State, saved_stream};
use crate::progress::Step;
use crate::store::{ProfileDir, Store};
use crate::units::Mebibytes;

/// What is left free on the disk beside a saved state.
const SPARE: Mebibytes = Mebibytes(64);

/// What a cluster is saved for, which says what becomes of its disk and its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be taken up some day, perhaps often: the disk is frozen, the cluster goes on in a new
    /// layer, and the files get digests.
    Keep,
    /// The same, to be taken up at once.
    Fork,
    /// To be taken up by the same cluster: the disk stays as it is, and the machine stays paused,
    /// to be ended.
    Suspend,
}

/// The surroundings of saving.
pub struct Capture<'a> {
    pub hypervisor: &'a dyn Hypervisor,
    pub store: &'a Store,
    pub step: &'a Step,
}

/// Removes what a failure leaves, unless told that all went well.
struct Unfinished {
    paths: Vec<PathBuf>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        for path in &self.paths {
            let _ = fsutil::remove_all(path);
        }
    }
}

/// Lets a machine go on, whatever happens.
struct Paused<'a> {
    hypervisor: &'a dyn Hypervisor,
    domain: &'a str,
    resume: bool,
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        if self.resume {
            let _ = self.hypervisor.resume(self.domain);
        }
    }
}

impl Capture<'_> {
    /// Saves a cluster that runs or is stopped into a folder that must not be there yet. `keys` is
    /// where the keys are that the node has at this moment.
    ///
    /// # Errors
    /// [`Kind::Preflight`] when there is no room, [`Kind::Hypervisor`] when libvirt or QEMU
    /// refuses; the cluster is as before then, and nothing half-made is left.
    pub fn take(
        &self,
        access: &mut Access,
        keys: &ProfileDir,
        purpose: Purpose,
        into: &SavedDir,
    ) -> Result<Saved> {
        let names = Names::new(self.store, &access.profile);
        let found = self.hypervisor.find(&names.domain)?;
        let state = found.map_or(State::ShutOff, |domain| domain.state);
        // The files are known to nobody until the manifest is there: whoever sweeps has to wait.
        let _shared = self.store.lock_shared(|| {})?;
        let partial = into
            .root
            .with_extension(crate::cluster::saved::garbage::UNFINISHED);
        fsutil::remove_all(&partial)?;
        let mut unfinished = Unfinished {
            paths: vec![partial.clone()],
        };
        stage(&access.dir, keys, &partial)?;
        let profile = access.profile.clone();
        let id = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
        let memory = if state.is_active() {
            let files = state::file_names(&id).map(|name| names.target.join(name));
            unfinished.paths.extend(files.iter().cloned());
            Some(self.machine(access, &names, state, purpose, &files)?)
        } else {
            if purpose != Purpose::Suspend {
                self.freeze_off(access, &names)?;
            }
            None
        };
        let disk = names.target.join(&names.disk);
        let saved = Saved {
            format: FORMAT,
            id,
            created: now(),
            host: HostMark::of(&self.hypervisor.host()?),
            memory,
            disk: names.disk,
            disk_stamp: Stamp::of(&disk).ok_or_else(|| {
                Error::new(Kind::State, format!("the disk {} is gone", disk.display()))
            })?,
            profile,
        };
        SavedDir::at(partial.clone()).save(&saved)?;
        fsutil::rename(&partial, &into.root).context(Kind::Internal, || {
            format!("cannot move the saved state to {}", into.root.display())
        })?;
        unfinished.paths.clear();
        Ok(saved)
    }

    /// Memory, devices and disk of a machine that runs or is paused.
    fn machine(
        &self,
        access: &mut Access,
        names: &Names,
        state: State,
        purpose: Purpose,
        files: &[PathBuf; 2],
    ) -> Result<Memory> {
        // The memory takes at most its whole size; pages that are zero take nothing.
        let most = Mebibytes(access.profile.memory_mib).bytes() + SPARE.bytes();
        let what = "to save the machine's memory";
        resources::require_room(self.hypervisor, &names.pool, most, what)?;
        let [pages, devices] = files;
        self.hypervisor.create_state_file(pages)?;
        self.hypervisor.create_state_file(devices)?;
        self.step.detail("memory");
        let mut paused = Paused {
            hypervisor: self.hypervisor,
            domain: &names.domain,
            resume: state != State::Paused,
        };
        self.hypervisor.pause(&names.domain)?;
        if purpose != Purpose::Suspend {
            self.freeze(access, names)?;
        }
        self.hypervisor.save_memory(&names.domain, pages)?;
        paused.resume &= purpose != Purpose::Suspend;
        let goes_on = paused.resume;
        drop(paused);
        if goes_on {
            identity::correct_clock(self.hypervisor, names, access);
        }
        self.step.detail("checksums");
        describe(pages, devices, purpose != Purpose::Fork)
    }

    /// Lets the machine, which is paused, go on in a new layer over its disk.
    fn freeze(&self, access: &mut Access, names: &Names) -> Result<()> {
        let overlay = resources::disk_name(&access.profile.name);
        let path = names.target.join(&overlay);
        self.hypervisor.switch_disk(&names.domain, &path)?;
        access.profile.disk = overlay;
        access.profile.save(&access.dir)
    }

    /// The same for a machine that is off. Its definition is what counts as its disk, so that is
    /// changed before the profile is.
    fn freeze_off(&self, access: &mut Access, names: &Names) -> Result<()> {
        let overlay = resources::disk_name(&access.profile.name);
        let size = Mebibytes(access.profile.disk_mib).bytes();
        self.hypervisor
            .create_overlay(&names.pool, &overlay, &names.disk, size)?;
        access.profile.disk = overlay;
        resources::define(self.hypervisor, self.store, access, access.acceleration())?;
        access.profile.save(&access.dir)
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

/// Copies what a cluster has beside its machine: keys, certificates, add-ons of the user's own.
fn stage(from: &ProfileDir, keys: &ProfileDir, to: &Path) -> Result<()> {
    let to = ProfileDir::at(to.to_owned());
    fsutil::create_private_dir(to.root())?;
    fsutil::copy_private(&from.pki(), &to.pki())?;
    fsutil::copy_private(&from.addons(), &to.addons())?;
    identity::copy_keys(keys, &to)
}

/// Makes the devices' file from what QEMU saved, and says what both files are.
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
    let stamp = |path: &Path| {
        Stamp::of(path).ok_or_else(|| Error::new(Kind::Internal, fail("look at", path)))
    };
    let allocated = |path: &Path| {
        use std::os::unix::fs::MetadataExt as _;
        fs::metadata(path).map_or(0, |meta| meta.blocks() * 512)
    };
    Ok(Memory {
        offset: layout.pages,
        length: layout.length,
        digest: digest(pages)?,
        stamp: stamp(pages)?,
        devices_digest: digest(devices)?,
        devices_stamp: stamp(devices)?,
        allocated: allocated(pages) + allocated(devices),
    })
}
