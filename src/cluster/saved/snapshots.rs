//! Snapshots: saved states of a cluster that the user names.

use crate::cluster::Access;
use crate::cluster::machine::resources::Names;
use crate::cluster::saved::garbage;
use crate::cluster::saved::identity;
use crate::cluster::saved::load;
use crate::cluster::saved::restore::{self, Whose};
use crate::cluster::saved::save::{Capture, Purpose};
use crate::cluster::saved::state::{Saved, SavedDir};
use crate::error::{Error, Kind, Result};
use crate::fsutil;
use crate::hypervisor::{Hypervisor, Libvirt};
use crate::profile::ProfileName;
use crate::progress::Progress;
use crate::store::Store;

pub use crate::name::SnapshotName;

/// One row of `kubby snapshot list`.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Its name.
    pub name: SnapshotName,
    /// When it was saved, seconds since 1970; absent for one that is damaged.
    pub created: Option<i64>,
    /// Whether the machine's memory is in it.
    pub memory: bool,
    /// The bytes that its memory takes on the disk; the disk's layers are shared.
    pub bytes: u64,
    /// Why it cannot be used; absent when it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

fn dir_of(access: &Access, name: &SnapshotName) -> SavedDir {
    SavedDir::at(access.dir.snapshots().join(name.as_str()))
}

/// Loads a snapshot that has to be there.
///
/// # Errors
/// [`Kind::State`] when there is none of that name, or it is damaged.
pub fn require(access: &Access, name: &SnapshotName) -> Result<(Saved, SavedDir)> {
    let dir = dir_of(access, name);
    let flag = access.profile.name.flag();
    match dir.load()? {
        Some(saved) => Ok((saved, dir)),
        None => Err(Error::new(
            Kind::State,
            format!(
                "the cluster `{}` has no snapshot named `{name}`",
                access.profile.name
            ),
        )
        .with_hint(format!("kubby snapshot list{flag}"))),
    }
}

/// Saves a cluster that runs or is stopped.
///
/// # Errors
/// [`Kind::State`] where there is no such cluster, or a snapshot of that name already;
/// [`Kind::Preflight`] where machines cannot be saved, or there is no room.
pub fn save(
    store: &Store,
    name: &ProfileName,
    snapshot: &SnapshotName,
    progress: &dyn Progress,
) -> Result<Saved> {
    let _lock = crate::cluster::lock(store, name, progress)?;
    let mut access = Access::open(store, name)?;
    let dir = dir_of(&access, snapshot);
    if dir.root.exists() {
        return Err(Error::new(
            Kind::State,
            format!("the cluster `{name}` has a snapshot named `{snapshot}` already"),
        )
        .with_hint(format!(
            "kubby snapshot delete{} {snapshot}, or choose another name",
            name.flag()
        )));
    }
    let hypervisor = Libvirt::open(&access.profile.connect)?;
    load::require(&hypervisor.host()?)?;
    require_disk(&access, &hypervisor, store)?;
    if restore::is_suspended(&access) {
        return Err(suspended(name));
    }
    fsutil::create_private_dir(&access.dir.snapshots())?;
    let step = progress.step(&format!("Save the snapshot `{snapshot}`"));
    let capture = Capture {
        hypervisor: &hypervisor,
        store,
        step: &step,
    };
    let keys = identity::keys_of_node(&access);
    let saved = capture.take(&mut access, &keys, Purpose::Keep, &dir)?;
    step.done(match &saved.memory {
        Some(memory) => crate::units::human_bytes(memory.allocated),
        None => "the disk alone, since the node is off".into(),
    });
    Ok(saved)
}

/// The disk of a cluster that was never started is not there.
///
/// # Errors
/// [`Kind::State`] then.
pub fn require_disk(access: &Access, hypervisor: &dyn Hypervisor, store: &Store) -> Result<()> {
    let names = Names::new(store, &access.profile);
    if crate::cluster::machine::resources::Volumes::of(hypervisor, &names.pool)?.has(&names.disk) {
        return Ok(());
    }
    let name = &access.profile.name;
    Err(
        Error::new(Kind::State, format!("the cluster `{name}` has no disk yet"))
            .with_hint(format!("kubby start{}", name.flag())),
    )
}

/// A suspended cluster has to be woken before it is copied.
pub fn suspended(name: &ProfileName) -> Error {
    Error::new(Kind::State, format!("the cluster `{name}` is suspended"))
        .with_hint(format!("kubby resume{}", name.flag()))
}

/// The snapshots of a cluster, the oldest first.
///
/// # Errors
/// [`Kind::State`] where there is no such cluster, [`Kind::Hypervisor`] when libvirt cannot be
/// asked.
pub fn list(store: &Store, name: &ProfileName) -> Result<Vec<Snapshot>> {
    let access = Access::open(store, name)?;
    let hypervisor = Libvirt::open(&access.profile.connect)?;
    let host = hypervisor.host()?;
    let names = Names::new(store, &access.profile);
    let entries = std::fs::read_dir(access.dir.snapshots());
    let mut all = Vec::new();
    for entry in entries.into_iter().flatten().flatten() {
        let Some(name) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let loaded = SavedDir::at(entry.path()).load();
        let problem = match &loaded {
            Ok(Some(saved)) => load::check(saved, &names, &host).err(),
            Ok(None) => Some(Error::new(Kind::State, "it has no manifest")),
            Err(e) => Some(Error::new(Kind::State, e.message().to_owned())),
        };
        let saved = loaded.ok().flatten();
        let memory = saved.as_ref().and_then(|saved| saved.memory.as_ref());
        all.push(Snapshot {
            name,
            created: saved.as_ref().map(|saved| saved.created),
            memory: memory.is_some(),
            bytes: memory.map_or(0, |memory| memory.allocated),
            problem: problem.map(|e| e.message().to_owned()),
        });
    }
    all.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    Ok(all)
}

/// Takes a cluster back to a snapshot, whatever it does now; what it has done since is lost. The
/// cluster is off afterwards and its next start takes the snapshot up.
///
/// # Errors
/// [`Kind::State`] when there is no such snapshot or it cannot be used; the cluster is as before
/// then.
pub fn restore(
    store: &Store,
    name: &ProfileName,
    snapshot: &SnapshotName,
    progress: &dyn Progress,
) -> Result<()> {
    let _lock = crate::cluster::lock(store, name, progress)?;
    let mut access = Access::open(store, name)?;
    let hypervisor = Libvirt::open(&access.profile.connect)?;
    let (saved, dir) = require(&access, snapshot)?;
    let names = Names::new(store, &access.profile);
    let host = hypervisor.host()?;
    load::check(&saved, &names, &host)?;
    let step = progress.step(&format!("Go back to the snapshot `{snapshot}`"));
    hypervisor.destroy(&names.domain)?;
    // Its definition names the disk that is given up, and counts where it is there.
    hypervisor.undefine(&names.domain)?;
    restore::adopt(&hypervisor, store, &mut access, &saved, &dir, Whose::Own)?;
    crate::cluster::machine::resources::define(&hypervisor, store, &access, access.acceleration())?;
    let _shared = store.lock_shared(|| {})?;
    garbage::sweep(&hypervisor, store, &names.pool, None)?;
    step.done("");
    Ok(())
}

/// Removes a snapshot. What the cluster and other snapshots share with it stays. Returns whether
/// there was one.
///
/// # Errors
/// [`Kind::State`] where there is no such cluster, [`Kind::Hypervisor`] when libvirt refuses.
pub fn delete(
    store: &Store,
    name: &ProfileName,
    snapshot: &SnapshotName,
    progress: &dyn Progress,
) -> Result<bool> {
    let _lock = crate::cluster::lock(store, name, progress)?;
    let access = Access::open(store, name)?;
    let hypervisor = Libvirt::open(&access.profile.connect)?;
    let dir = dir_of(&access, snapshot);
    let step = progress.step(&format!("Delete the snapshot `{snapshot}`"));
    if !dir.root.exists() {
        step.skipped("there is none");
        return Ok(false);
    }
    let names = Names::new(store, &access.profile);
    let _shared = store.lock_shared(|| {})?;
    fsutil::remove_all(&dir.root)?;
    garbage::sweep(&hypervisor, store, &names.pool, None)?;
    step.done("");
    Ok(true)
}
