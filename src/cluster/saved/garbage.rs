//! What in the storage pool is needed, and the removal of the rest.
//!
//! A frozen disk is shared by all disks that build on it, whoever's they are, so whether one may
//! go is not told by its name but by who can be reached: from the disks of the clusters and the
//! saved states, down through what each builds on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cluster::machine::resources::{BaseVolumes, Names};
use crate::cluster::saved::state::{self, Saved, SavedDir};
use crate::error::Result;
use crate::fsutil;
use crate::hypervisor::{Hypervisor, Volume};
use crate::profile::{Profile, ProfileName};
use crate::store::{ProfileDir, Store};

/// The ending of the folder of a saved state that is being made.
pub const UNFINISHED: &str = "partial";

/// The folders of all saved states of a home, except for those of the profile `without`.
fn saved_dirs(
    store: &Store,
    without: Option<&ProfileName>,
    forks: &[ProfileDir],
) -> Result<Vec<SavedDir>> {
    let mut parents = vec![store.templates_dir()];
    let mut dirs = Vec::new();
    for fork in forks {
        dirs.push(fork.suspended());
        dirs.push(fork.root().join(crate::cluster::saved::fork::ORIGIN));
    }
    for name in store.profile_names()? {
        if Some(&name) != without {
            let profile = store.profile_dir(&name);
            parents.push(profile.snapshots());
            dirs.push(profile.suspended());
        }
    }
    for parent in parents {
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|e| e != UNFINISHED) {
                dirs.push(path);
            }
        }
    }
    Ok(dirs.into_iter().map(SavedDir::at).collect())
}

/// The folders of saved states that are being made, or that somebody was killed over: saving holds
/// the shared lock, so whoever has it knows that nobody is at work on them.
///
/// # Errors
/// [`crate::error::Kind::Internal`] when the profiles cannot be listed.
pub fn unfinished(store: &Store) -> Result<Vec<PathBuf>> {
    let mut parents = vec![store.templates_dir()];
    for name in store.profile_names()? {
        let profile = store.profile_dir(&name);
        // A suspended cluster's is in the profile's own folder.
        parents.extend([profile.snapshots(), profile.root().to_owned()]);
    }
    let mut found = Vec::new();
    for parent in parents {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        found.extend(
            entries
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|e| e == UNFINISHED)),
        );
    }
    Ok(found)
}

/// The warm templates of a home that can be read.
pub fn templates(store: &Store) -> Vec<Saved> {
    let entries = std::fs::read_dir(store.templates_dir());
    let dirs = entries.into_iter().flatten().flatten().map(|e| e.path());
    dirs.filter(|path| path.extension().is_none_or(|e| e != UNFINISHED))
        .filter_map(|path| SavedDir::at(path).load().ok()?)
        .collect()
}

/// What is needed of a pool: names of volumes, and ids of saved states.
#[derive(Debug, Default)]
struct Needed {
    volumes: BTreeSet<String>,
    states: BTreeSet<String>,
}

impl Needed {
    fn base(&mut self, profile: &Profile) {
        let base = BaseVolumes::of(profile);
        self.volumes.extend(base.all().map(str::to_owned));
    }

    fn saved(&mut self, saved: &Saved) {
        self.base(&saved.profile);
        self.volumes.insert(saved.disk.clone());
        self.states.insert(saved.id.clone());
    }

    /// Adds everything that the needed volumes build on.
    fn close(&mut self, volumes: &[Volume]) {
        loop {
            let below: Vec<String> = volumes
                .iter()
                .filter(|v| self.volumes.contains(&v.name))
                .filter_map(|v| file_name(v.backing.as_deref()?))
                .filter(|name| !self.volumes.contains(name))
                .collect();
            if below.is_empty() {
                return;
            }
            self.volumes.extend(below);
        }
    }

    fn has(&self, volume: &str) -> bool {
        match state::id_of(volume) {
            Some(id) => self.states.contains(id),
            None => !is_swept(volume) || self.volumes.contains(volume),
        }
    }
}

/// Whether a volume is of a kind that goes when nothing needs it.
fn is_swept(volume: &str) -> bool {
    volume.starts_with("base-")
        || volume.starts_with("components-")
        || (volume.contains(".disk") && volume.ends_with(".qcow2"))
}

fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

/// Removes the disks, shared images and saved files that neither a cluster nor a saved state of
/// this home needs; the profile `without` counts as gone. The caller holds the shared lock.
/// Returns whether anything was removed.
///
/// # Errors
/// [`crate::error::Kind::Hypervisor`] when libvirt refuses.
pub fn sweep(
    hypervisor: &dyn Hypervisor,
    store: &Store,
    pool: &str,
    without: Option<&ProfileName>,
) -> Result<bool> {
    crate::cluster::saved::fork::remove_abandoned(store)?;
    for path in unfinished(store)? {
        fsutil::remove_all(&path)?;
    }
    let mut unneeded = unneeded(hypervisor, store, pool, without)?.unwrap_or_default();
    if another_home(hypervisor, store)?.is_some() {
        // What that one needs is not known here; no two homes have a cluster of the same name.
        let own = without.map(|name| format!("{}.disk", name.resource_name()));
        unneeded.retain(|volume| own.as_ref().is_some_and(|own| volume.starts_with(own)));
    }
    for volume in &unneeded {
        hypervisor.delete_volume(pool, volume)?;
    }
    Ok(!unneeded.is_empty())
}

/// Another home whose cluster has its disk in this home's pool: two users without a `KUBBY_HOME` on
/// the same libvirt.
///
/// # Errors
/// [`crate::error::Kind::Hypervisor`] when libvirt cannot be asked.
pub fn another_home(hypervisor: &dyn Hypervisor, store: &Store) -> Result<Option<PathBuf>> {
    let target = store.pool_target(hypervisor.uri());
    for domain in hypervisor.list_owned()? {
        let home = domain.owner.map(|owner| owner.home);
        let others = home.filter(|home| !home.components().eq(store.home().components()));
        if let Some(home) = others
            && let Some(disk) = hypervisor.root_disk(&domain.name)?
            && disk.starts_with(&target)
        {
            return Ok(Some(home));
        }
    }
    Ok(None)
}

/// The volumes that [`sweep`] would remove, in its order; `None` where that cannot be told, since a
/// profile or a saved state is damaged. The caller holds the shared lock, or can do with an answer
/// that another kubby overtakes.
///
/// # Errors
/// [`crate::error::Kind::Hypervisor`] when libvirt cannot be asked.
pub fn unneeded(
    hypervisor: &dyn Hypervisor,
    store: &Store,
    pool: &str,
    without: Option<&ProfileName>,
) -> Result<Option<Vec<String>>> {
    let mut needed = Needed::default();
    let forks = crate::cluster::saved::fork::in_progress(store);
    for fork in &forks {
        let made = Profile::load(fork)?.map(|profile| profile.disk);
        needed.volumes.extend(made);
    }
    for name in store.profile_names()? {
        if Some(&name) == without {
            continue;
        }
        let profile = match Profile::load(&store.profile_dir(&name)) {
            Ok(Some(profile)) => profile,
            // A folder of a cluster that is about to come to be, or of a fork that was cut short.
            Ok(None) => continue,
            // What a damaged profile needs is not known: everything stays.
            Err(_) => return Ok(None),
        };
        needed.base(&profile);
        let names = Names::new(store, &profile);
        // A machine goes on needing the file that its memory is mapped from.
        let mapped = hypervisor.mapped_memory(&names.domain)?;
        let mapped = mapped.as_deref().and_then(file_name);
        needed
            .states
            .extend(mapped.as_deref().and_then(state::id_of).map(str::to_owned));
        let in_use = hypervisor.root_disk(&names.domain)?;
        needed.volumes.extend(in_use.as_deref().and_then(file_name));
        needed.volumes.insert(names.disk);
    }
    for dir in saved_dirs(store, without, &forks)? {
        match dir.load() {
            Ok(Some(saved)) => needed.saved(&saved),
            Ok(None) => {}
            Err(_) => return Ok(None),
        }
    }
    let volumes = hypervisor.list_volumes(pool)?;
    needed.close(&volumes);
    // What builds on others first: nothing may be left without what it builds on.
    let mut unneeded: Vec<&Volume> = volumes.iter().filter(|v| !needed.has(&v.name)).collect();
    unneeded.sort_by_key(|v| depth(v, &volumes));
    let names = unneeded.into_iter().rev().map(|v| v.name.clone());
    Ok(Some(names.collect()))
}

/// How many volumes a volume builds on.
fn depth(volume: &Volume, all: &[Volume]) -> usize {
    let mut depth = 0;
    let mut current = volume;
    while let Some(name) = current.backing.as_deref().and_then(file_name) {
        let Some(below) = all.iter().find(|v| v.name == name) else {
            break;
        };
        depth += 1;
        if depth > all.len() {
            break;
        }
        current = below;
    }
    depth
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str, backing: Option<&str>) -> Volume {
        Volume {
            name: name.into(),
            allocation: 0,
            uploaded: false,
            backing: backing.map(|b| Path::new("/pool").join(b)),
        }
    }

    #[test]
    fn what_is_needed_keeps_all_that_it_builds_on() {
        let volumes = [
            volume("base-1.qcow2", None),
            volume("kubby.disk.qcow2", Some("base-1.qcow2")),
            volume("kubby.disk-2.qcow2", Some("kubby.disk.qcow2")),
            volume("kubby-fork.disk.qcow2", Some("kubby.disk.qcow2")),
            volume("kubby-old.disk.qcow2", Some("base-1.qcow2")),
            volume("kubby.console.log", None),
            volume("state-12.mem", None),
            volume("state-34.dev", None),
        ];
        let mut needed = Needed::default();
        needed.volumes.insert("kubby-fork.disk.qcow2".into());
        needed.states.insert("12".into());
        needed.close(&volumes);
        let gone: Vec<&str> = volumes
            .iter()
            .map(|v| v.name.as_str())
            .filter(|name| !needed.has(name))
            .collect();
        assert_eq!(
            gone,
            ["kubby.disk-2.qcow2", "kubby-old.disk.qcow2", "state-34.dev"]
        );
        assert_eq!(depth(&volumes[2], &volumes), 2);
    }
}
