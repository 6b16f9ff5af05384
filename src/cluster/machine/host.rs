//! One libvirt with this home's storage pool in it: base volumes, room, and whose the pool is.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::assets::components::ComponentSet;
use crate::assets::node_image::NodeImage;
use crate::cluster::env::Env;
use crate::cluster::machine::pool_owner::{self, OtherPool, PoolOwner};
use crate::error::{Error, Kind, Result, ResultExt as _};
use crate::fsutil;
use crate::hypervisor::{self, Change, HostInfo, Hypervisor, POOL_MARK, Volume};
use crate::profile::Assets;
use crate::progress::Progress;
use crate::store::Store;
use crate::units::{Mebibytes, human_bytes};

/// The room that a new node needs in its first minutes.
const FIRST_STEPS: Mebibytes = Mebibytes(512);

/// One libvirt, and the storage pool that this home has in it.
pub(crate) struct Host<'a> {
    store: &'a Store,
    libvirt: Box<dyn Hypervisor>,
    pool: String,
    target: PathBuf,
    /// The pool's mark was read and is this home's.
    ours: AtomicBool,
}

impl<'a> Host<'a> {
    /// Connects to the libvirt at a URI.
    ///
    /// # Errors
    /// [`Kind::Preflight`] when libvirt cannot be reached.
    pub(crate) fn open(env: &Env<'a>, uri: &str) -> Result<Self> {
        let libvirt = env.backend.libvirt(uri)?;
        Ok(Host {
            store: env.store,
            pool: env.store.pool_name(),
            target: env.store.pool_target(uri),
            ours: AtomicBool::new(false),
            libvirt,
        })
    }

    /// Returns the home whose pool this is.
    pub(crate) fn store(&self) -> &'a Store {
        self.store
    }

    /// Returns the connection.
    pub(crate) fn libvirt(&self) -> &dyn Hypervisor {
        self.libvirt.as_ref()
    }

    /// Asks what the host is and can do.
    ///
    /// # Errors
    /// [`Kind::Hypervisor`] when libvirt does not answer.
    pub(crate) fn info(&self) -> Result<HostInfo> {
        self.libvirt.host()
    }

    /// Returns whether this process can work on the pool's files itself: they are on this computer,
    /// and libvirt is the user's own, or the user is root.
    pub(crate) fn reaches_files(&self) -> bool {
        reaches_files(self.libvirt.uri())
    }

    /// Returns the pool's name.
    pub(crate) fn pool(&self) -> &str {
        &self.pool
    }

    /// Returns the path of a file in the pool's folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.target.join(name)
    }

    /// Returns the pool's folder.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Creates and starts the pool where that is needed, and marks it as this home's. The caller holds
    /// the shared lock.
    ///
    /// # Errors
    /// [`Kind::State`] for a pool that belongs to another home, [`Kind::Hypervisor`] when libvirt
    /// cannot create one.
    pub(crate) fn ensure_pool(&self) -> Result<()> {
        self.has_own_pool()?;
        self.libvirt.ensure_pool(&self.pool, &self.target)?;
        self.mark_pool()?;
        self.ours.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Returns whether there is a pool of this home, after starting it where it is off: a pool that is
    /// off shows no volumes. Everything that removes something from a pool asks this first.
    ///
    /// # Errors
    /// [`Kind::State`] for a pool that belongs to another home: nothing in it is ours to remove, and it
    /// is not started either.
    pub(crate) fn has_own_pool(&self) -> Result<bool> {
        if self.ours.load(Ordering::Relaxed) {
            return self.libvirt.has_pool(&self.pool);
        }
        let owner = match self.pool_owner() {
            // Where only libvirt can read the mark, the pool has to be started for it.
            Err(_) if self.start_pool()? => self.pool_owner()?,
            owner => owner?,
        };
        match owner {
            PoolOwner::Nobody => return Ok(false),
            PoolOwner::Other(why) => return Err(why.refuse(self.store, &self.pool)),
            PoolOwner::Us => drop(self.start_pool()?),
            PoolOwner::Unmarked => {
                self.start_pool()?;
                self.mark_pool()?;
            }
        }
        self.ours.store(true, Ordering::Relaxed);
        Ok(true)
    }

    /// Returns whether there is a pool of this home, as [`Host::has_own_pool`], so that it can be emptied
    /// and removed: where its folder is gone, libvirt needs one again for that.
    ///
    /// # Errors
    /// As [`Host::has_own_pool`], and [`Kind::Preflight`] when the folder cannot be made.
    pub(crate) fn has_pool_to_empty(&self) -> Result<bool> {
        if self.reaches_files()
            && !self.target.exists()
            && matches!(self.pool_owner()?, PoolOwner::Us | PoolOwner::Unmarked)
        {
            self.make_folder()?;
        }
        self.has_own_pool()
    }

    /// Makes the pool's folder, with the mode that libvirt gives to a new one's.
    ///
    /// # Errors
    /// [`Kind::Preflight`] when that fails.
    pub(crate) fn make_folder(&self) -> Result<()> {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(&self.target);
        made.context(Kind::Preflight, || {
            format!("cannot make the folder {}", self.target.display())
        })
    }

    /// Fails if the pool with this home's name is another's. Changes nothing.
    ///
    /// # Errors
    /// [`Kind::State`] with the cause and the remedy.
    pub(crate) fn refuse_foreign_pool(&self) -> Result<()> {
        if self.ours.load(Ordering::Relaxed) {
            return Ok(());
        }
        let foreign = self.foreign_pool_owner()?;
        foreign.map_or(Ok(()), |why| Err(why.refuse(self.store, &self.pool)))
    }

    /// Returns the reason why the pool with this home's name is another's; `None` if it is not, or if
    /// only libvirt can read its mark and the pool is off. Changes nothing.
    ///
    /// # Errors
    /// [`Kind::Hypervisor`] when libvirt cannot be asked.
    pub(crate) fn foreign_pool_owner(&self) -> Result<Option<OtherPool>> {
        let is_off = || -> Result<bool> {
            let pool = self.libvirt.find_pool(&self.pool)?;
            Ok(pool.is_some_and(|pool| !pool.active))
        };
        match self.pool_owner() {
            Ok(PoolOwner::Other(why)) => Ok(Some(why)),
            Err(e) if !is_off()? => Err(e),
            _ => Ok(None),
        }
    }

    /// Starts the pool, which exists; returns whether it was off.
    fn start_pool(&self) -> Result<bool> {
        let change = self.libvirt.ensure_pool(&self.pool, &self.target)?;
        Ok(change == Change::Done)
    }

    fn pool_owner(&self) -> Result<PoolOwner> {
        let Some(pool) = self.libvirt.find_pool(&self.pool)? else {
            return Ok(PoolOwner::Nobody);
        };
        if !fsutil::same_place(&pool.target, &self.target) {
            return Ok(PoolOwner::Other(OtherPool::Elsewhere {
                found: pool.target,
                expected: self.target.clone(),
            }));
        }
        let mark = self.libvirt.read_log(&self.pool, POOL_MARK)?;
        match pool_owner::read_mark(&mark, self.store) {
            PoolOwner::Unmarked => self.owner_of_unmarked(),
            owner => Ok(owner),
        }
    }

    /// Looks for another home's disks in a pool that an earlier version created without a mark.
    fn owner_of_unmarked(&self) -> Result<PoolOwner> {
        for domain in self.libvirt.list_owned()? {
            let home = domain.owner.map(|owner| owner.home);
            let other = home.filter(|home| !fsutil::same_place(home, self.store.home()));
            if let Some(home) = other
                && let Some(disk) = self.libvirt.root_disk(&domain.name)?
                && disk.starts_with(&self.target)
            {
                let domain = domain.name;
                return Ok(PoolOwner::Other(OtherPool::HasDisk { home, domain }));
            }
        }
        Ok(PoolOwner::Unmarked)
    }

    fn mark_pool(&self) -> Result<()> {
        if self.libvirt.read_log(&self.pool, POOL_MARK)?.is_empty() {
            let mark = pool_owner::mark(self.store);
            self.libvirt
                .upload_bytes(&self.pool, POOL_MARK, mark.as_bytes())?;
        }
        Ok(())
    }

    /// Lists the pool's volumes; a pool that does not exist has none.
    ///
    /// # Errors
    /// [`Kind::Hypervisor`] when libvirt cannot be asked.
    pub(crate) fn volumes(&self) -> Result<Volumes> {
        self.libvirt.list_volumes(&self.pool).map(Volumes)
    }

    /// Creates a disk of this size over another volume of the pool.
    ///
    /// # Errors
    /// [`Kind::Hypervisor`] when libvirt refuses.
    pub(crate) fn create_overlay(&self, disk: &str, over: &str, size: Mebibytes) -> Result<()> {
        let (libvirt, bytes) = (&self.libvirt, size.bytes());
        libvirt.create_overlay(&self.pool, disk, over, bytes)?;
        Ok(())
    }

    /// Deletes a volume of this home's pool; one that does not exist is fine. The caller holds the
    /// shared lock.
    ///
    /// # Errors
    /// As [`Host::has_own_pool`]; [`Kind::Hypervisor`] when libvirt refuses.
    pub(crate) fn delete_volume(&self, volume: &str) -> Result<bool> {
        Ok(self.has_own_pool()? && self.libvirt.delete_volume(&self.pool, volume)? == Change::Done)
    }

    /// Removes the pool unless it still has volumes. The caller holds the shared lock.
    ///
    /// # Errors
    /// As [`Host::delete_volume`].
    pub(crate) fn remove_pool_if_empty(&self) -> Result<()> {
        if self.has_own_pool()? {
            self.libvirt.remove_pool(&self.pool)?;
        }
        Ok(())
    }

    /// Uploads the assets that the pool lacks. The caller holds the shared lock.
    ///
    /// # Errors
    /// [`Kind::Preflight`] for a full disk, [`Kind::Hypervisor`] when libvirt refuses.
    pub(crate) fn upload_base(
        &self,
        base: &BaseVolumes,
        image: &NodeImage,
        components: &ComponentSet,
        progress: &dyn Progress,
    ) -> Result<()> {
        let files: [(&str, &Path); 4] = [
            (&base.disk, &image.disk),
            (&base.kernel, &image.kernel),
            (&base.initrd, &image.initrd),
            (&base.components, &components.volume),
        ];
        let step = progress.step("Upload the images to libvirt");
        let size = |file: &Path| std::fs::metadata(file).map_or(0, |m| m.len());
        let there = self.volumes()?;
        let missing = files.iter().filter(|(name, _)| !there.has_whole(name));
        let missing: u64 = missing.map(|(_, file)| size(file)).sum();
        let needed = missing + FIRST_STEPS.bytes();
        self.require_room(needed, "for the cluster's volumes")?;
        let mut uploaded = 0;
        for (volume, file) in files {
            step.detail(volume);
            if self.libvirt.upload(&self.pool, volume, file, &step)? == Change::Done {
                uploaded += size(file);
            }
        }
        match uploaded {
            0 => step.skipped(""),
            uploaded => step.done(human_bytes(uploaded)),
        }
        Ok(())
    }

    /// Checks that the pool has room for `needed` bytes; `purpose` completes `there is not enough room`.
    ///
    /// # Errors
    /// [`Kind::Preflight`] when it has not.
    pub(crate) fn require_room(&self, needed: u64, purpose: &str) -> Result<()> {
        let available = self.libvirt.pool_available_bytes(&self.pool)?;
        if available >= needed {
            return Ok(());
        }
        Err(Error::preflight(format!(
            "there is not enough room {purpose}: {} needed, {} available",
            human_bytes(needed),
            human_bytes(available)
        ))
        .with_hint("kubby template prune removes the templates that no start can use")
        .with_hint(format!(
            "free disk space in the pool's folder: {}",
            self.target.display()
        )))
    }
}

/// The shared volumes that a cluster's assets are uploaded to, named by their content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseVolumes {
    /// The node image's disk, which overlays build on.
    pub(crate) disk: String,
    /// The kernel.
    pub(crate) kernel: String,
    /// The initial RAM disk.
    pub(crate) initrd: String,
    /// The Kubernetes programs.
    pub(crate) components: String,
}

impl BaseVolumes {
    /// Returns the names for a cluster's assets.
    pub(crate) fn of(assets: &Assets) -> Self {
        let node = &assets.node_image;
        BaseVolumes {
            disk: format!("base-{node}.qcow2"),
            kernel: format!("base-{node}.vmlinuz"),
            initrd: format!("base-{node}.initrd"),
            components: format!("components-{}.erofs", assets.components),
        }
    }

    /// Returns all four.
    pub(crate) fn all(&self) -> [&str; 4] {
        [&self.disk, &self.kernel, &self.initrd, &self.components]
    }

    /// Returns whether all of them are in the pool, so that no asset is needed.
    pub(crate) fn are_in(&self, volumes: &Volumes) -> bool {
        self.all().iter().all(|name| volumes.has_whole(name))
    }
}

/// The volumes of a pool at one moment.
#[derive(Debug)]
pub(crate) struct Volumes(Vec<Volume>);

impl Volumes {
    /// Returns whether a volume exists.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|v| v.name == name)
    }

    /// Returns whether a volume exists and its upload was completed.
    pub(crate) fn has_whole(&self, name: &str) -> bool {
        self.0.iter().any(|v| v.name == name && v.uploaded)
    }

    /// Returns all of them.
    pub(crate) fn all(&self) -> &[Volume] {
        &self.0
    }
}

/// Returns whether this process can work on the files of the pool at a connection itself.
pub(crate) fn reaches_files(uri: &str) -> bool {
    let system = uri.contains("/system");
    hypervisor::is_local(uri) && (!system || rustix::process::geteuid().is_root())
}
