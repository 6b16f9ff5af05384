//! `kubby snapshot`: saved states of a cluster that the user names.

use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::cluster::machine::host::Host;
use crate::cluster::machine::{Machine, domain};
use crate::cluster::saved::save::{Save, SaveReason, Written};
use crate::cluster::saved::state::{self, Saved, SavedDir};
use crate::cluster::saved::{garbage, restore, support, suspend};
use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::fsutil;
use crate::name::{ProfileName, SnapshotName};

/// One row of `kubby snapshot list`.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Snapshot {
    /// Its name.
    pub name: SnapshotName,
    /// The time at which it was saved, seconds since 1970; absent for one that is damaged.
    pub created: Option<i64>,
    /// Whether the machine's memory is in it.
    pub memory: bool,
    /// The bytes that its memory takes on the disk; the disk's layers are shared.
    pub bytes: u64,
    /// The reason why it cannot be used; absent when it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

fn dir_of(cluster: &Cluster, name: &SnapshotName) -> SavedDir {
    SavedDir::at(cluster.dir.snapshots().join(name.as_str()))
}

/// Loads a snapshot.
///
/// # Errors
/// [`Kind::State`](crate::error::Kind::State) if there is none of that name, or it is damaged.
pub(crate) fn require(cluster: &Cluster, name: &SnapshotName) -> Result<(Vec<Saved>, SavedDir)> {
    let dir = dir_of(cluster, name);
    match dir.load_all()? {
        Some(parts) => Ok((parts, dir)),
        None => Err(Error::state(format!(
            "the cluster `{}` has no snapshot named `{name}`",
            cluster.name()
        ))
        .with_hint(format!("kubby snapshot list{}", cluster.flag()))),
    }
}

/// Saves a snapshot of a cluster that runs or is stopped.
///
/// # Errors
/// [`Kind::State`](crate::error::Kind::State) if there is no such cluster, or it has a snapshot of that name;
/// [`Kind::Preflight`](crate::error::Kind::Preflight) if machines cannot be saved here, or there is no room.
pub(crate) fn save(env: &Env<'_>, name: &ProfileName, snapshot: &SnapshotName) -> Result<Written> {
    let (mut cluster, _lock) = Cluster::open_locked(env, name)?;
    let dir = dir_of(&cluster, snapshot);
    if dir.root.exists() {
        return Err(Error::state(format!(
            "the cluster `{name}` has a snapshot named `{snapshot}` already"
        ))
        .with_hint(format!(
            "kubby snapshot delete{} {snapshot}, or choose another name",
            name.flag()
        )));
    }
    let host = Host::open(env, &cluster.profile.connect)?;
    let machines = Machine::all(&host, &cluster.profile)?;
    support::require(&host.info()?)?;
    check_source(&cluster, &machines)?;
    fsutil::create_private_dir(&cluster.dir.snapshots())?;
    let step = env
        .progress
        .step(&format!("Save the snapshot `{snapshot}`"));
    let save = Save {
        env,
        machines: machines.iter().enumerate().collect(),
        step: &step,
        reason: SaveReason::Keep,
    };
    let written = save.write(&mut cluster, &dir)?;
    step.done(written.summary());
    Ok(written)
}

/// Checks that a cluster can be saved: its nodes have disks, and it is not suspended.
///
/// # Errors
/// [`Kind::State`](crate::error::Kind::State) otherwise.
pub(crate) fn check_source(cluster: &Cluster, machines: &[Machine<'_>]) -> Result<()> {
    let (name, flag) = (cluster.name(), cluster.flag());
    for machine in machines {
        machine.find()?;
    }
    if suspend::is_suspended(cluster) {
        return Err(Error::state(format!("the cluster `{name}` is suspended"))
            .with_hint(format!("kubby resume{flag}")));
    }
    support::require_disks(cluster, machines)
}

/// Lists the snapshots of a cluster, the oldest first.
///
/// # Errors
/// [`Kind::State`](crate::error::Kind::State) if there is no such cluster, [`Kind::Hypervisor`](crate::error::Kind::Hypervisor) when libvirt cannot be asked.
pub(crate) fn list(env: &Env<'_>, name: &ProfileName) -> Result<Vec<Snapshot>> {
    let cluster = Cluster::open(env.store, name)?;
    let host = Host::open(env, &cluster.profile.connect)?;
    let info = host.info()?;
    let entries = std::fs::read_dir(cluster.dir.snapshots());
    let mut all = Vec::new();
    for entry in entries.into_iter().flatten().flatten() {
        let Some(name) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let loaded = SavedDir::at(entry.path()).load_all();
        let problem = match &loaded {
            Ok(Some(parts)) => support::check_all(parts, host.target(), &info).err(),
            Ok(None) => Some(Error::state("it has no manifest")),
            Err(e) => Some(Error::state(e.message().to_owned())),
        };
        let parts = loaded.ok().flatten().unwrap_or_default();
        let memory = state::memory_of(&parts);
        all.push(Snapshot {
            name,
            created: parts.first().map(|saved| saved.created),
            memory: memory.is_some(),
            bytes: memory.unwrap_or_default(),
            problem: problem.map(|e| e.message().to_owned()),
        });
    }
    all.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    Ok(all)
}

/// Restores a cluster from a snapshot, whatever state it is in; its later changes are lost. The cluster
/// is off afterwards and its next start resumes from the snapshot.
///
/// # Errors
/// [`Kind::State`](crate::error::Kind::State) if there is no such snapshot or it cannot be used, or the domain is another's; the
/// cluster is as before then.
pub(crate) fn restore(env: &Env<'_>, name: &ProfileName, snapshot: &SnapshotName) -> Result<()> {
    let (mut cluster, _lock) = Cluster::open_locked(env, name)?;
    let host = Host::open(env, &cluster.profile.connect)?;
    let (parts, dir) = require(&cluster, snapshot)?;
    support::check_all(&parts, host.target(), &host.info()?)?;
    host.has_own_pool()?;
    let step = env
        .progress
        .step(&format!("Restore the snapshot `{snapshot}`"));
    // The definition of a domain names the disk that is given up, and counts as long as it exists.
    for machine in Machine::all(&host, &cluster.profile)? {
        machine.undefine()?;
    }
    Endpoint::of(&cluster.dir).stop()?;
    restore::restore(env, &host, &mut cluster, &parts, &dir)?;
    for (machine, node) in Machine::all(&host, &cluster.profile)?
        .iter()
        .zip(&cluster.profile.nodes)
    {
        domain::define(machine, &cluster.profile, node, cluster.acceleration())?;
    }
    let _shared = env.lock_shared()?;
    garbage::sweep(&host, None)?;
    step.done("");
    Ok(())
}

/// Deletes a snapshot; whatever the cluster and other snapshots share with it stays. Returns whether
/// there was one.
///
/// # Errors
/// [`Kind::State`](crate::error::Kind::State) if there is no such cluster, [`Kind::Hypervisor`](crate::error::Kind::Hypervisor) when libvirt refuses.
pub(crate) fn delete(env: &Env<'_>, name: &ProfileName, snapshot: &SnapshotName) -> Result<bool> {
    let (cluster, _lock) = Cluster::open_locked(env, name)?;
    let host = Host::open(env, &cluster.profile.connect)?;
    let dir = dir_of(&cluster, snapshot);
    let step = env
        .progress
        .step(&format!("Delete the snapshot `{snapshot}`"));
    if !dir.root.exists() {
        step.skipped("there is none");
        return Ok(false);
    }
    let _shared = env.lock_shared()?;
    host.has_own_pool()?;
    fsutil::remove_all(&dir.root)?;
    garbage::sweep(&host, None)?;
    step.done("");
    Ok(true)
}
