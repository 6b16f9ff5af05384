//! Garbage collection for the storage pool.
//!
//! All disks that build on a frozen disk share it, whichever cluster they belong to. So a volume can be
//! removed when it cannot be reached from the disks of clusters and saved states, through what each of
//! them builds on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cluster::machine::host::{BaseVolumes, Host};
use crate::cluster::saved::state::{self, Saved, SavedDir};
use crate::error::Result;
use crate::fault;
use crate::fsutil;
use crate::hypervisor::Volume;
use crate::name::ProfileName;
use crate::profile::Profile;
use crate::store::{ProfileDir, Store};

/// The file name extension of the folder of an unfinished saved state.
pub(crate) const UNFINISHED: &str = "partial";

/// Removes these files and folders when it is dropped, unless the list was emptied.
pub(crate) struct Unfinished(pub(crate) Vec<PathBuf>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if fault::is_killed() {
            return;
        }
        for path in &self.0 {
            let _ = fsutil::remove_all(path);
        }
    }
}

/// Returns the paths in a folder that are those of unfinished saved states, or that are not.
fn paths_in(folder: &Path, unfinished: bool) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(move |path| path.extension().is_some_and(|e| e == UNFINISHED) == unfinished)
}

/// Returns the folders of the saved states in a folder, but for unfinished ones.
pub(crate) fn saved_in(folder: &Path) -> impl Iterator<Item = SavedDir> {
    paths_in(folder, false).map(SavedDir::at)
}

/// Returns the folders of all saved states of a home, except for those of the profile `without`.
fn saved_dirs(
    store: &Store,
    without: Option<&ProfileName>,
    forks: &[ProfileDir],
) -> Result<Vec<SavedDir>> {
    let mut dirs: Vec<SavedDir> = saved_in(&store.templates_dir()).collect();
    for fork in forks {
        dirs.extend([fork.suspended(), fork.fork_origin()].map(SavedDir::at));
    }
    for name in store.profile_names()? {
        if Some(&name) != without {
            let profile = store.profile_dir(&name);
            dirs.extend(saved_in(&profile.snapshots()));
            dirs.push(SavedDir::at(profile.suspended()));
        }
    }
    Ok(dirs.into_iter().flat_map(SavedDir::with_nodes).collect())
}

/// Returns the folders of saved states that are unfinished, or left by a killed process: saving holds
/// the shared lock, so under that lock no process is writing to them.
///
/// # Errors
/// [`crate::error::Kind::Internal`] when the profiles cannot be listed.
pub(crate) fn unfinished(store: &Store) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = paths_in(&store.templates_dir(), true).collect();
    for name in store.profile_names()? {
        let profile = store.profile_dir(&name);
        found.extend(paths_in(&profile.snapshots(), true));
        // A suspended cluster's is in the profile's own folder.
        found.extend(paths_in(profile.root(), true));
    }
    Ok(found)
}

/// Returns the warm templates of a home that can be read.
pub(crate) fn templates(store: &Store) -> Vec<Saved> {
    saved_in(&store.templates_dir())
        .filter_map(|dir| dir.load().ok()?)
        .collect()
}

/// The needed parts of a pool: names of volumes, and IDs of saved states.
#[derive(Debug, Default)]
struct Needed {
    volumes: BTreeSet<String>,
    states: BTreeSet<String>,
}

impl Needed {
    fn base(&mut self, profile: &Profile) {
        let base = BaseVolumes::of(&profile.assets);
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

/// Returns whether a volume is of a kind that is removed when nothing needs it.
fn is_swept(volume: &str) -> bool {
    volume.starts_with("base-")
        || volume.starts_with("components-")
        || (volume.contains(".disk") && volume.ends_with(".qcow2"))
}

fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

/// Removes the disks, shared images and saved files that no cluster and no saved state of this home
/// needs; the profile `without` counts as deleted. The caller holds the shared lock. Returns whether
/// anything was removed.
///
/// # Errors
/// [`crate::error::Kind::State`] for a pool of another home, [`crate::error::Kind::Hypervisor`] when
/// libvirt refuses.
pub(crate) fn sweep(host: &Host<'_>, without: Option<&ProfileName>) -> Result<bool> {
    let store = host.store();
    store.remove_abandoned_forks()?;
    for path in unfinished(store)? {
        fsutil::remove_all(&path)?;
    }
    let unneeded = unneeded(host, without)?.unwrap_or_default();
    for volume in &unneeded {
        host.delete_volume(volume)?;
    }
    Ok(!unneeded.is_empty())
}

/// Returns the volumes that [`sweep`] would remove, in its order; `None` if a damaged profile or saved
/// state keeps it from knowing. The caller holds the shared lock, or accepts that another process
/// changes the answer.
///
/// # Errors
/// [`crate::error::Kind::Hypervisor`] when libvirt cannot be asked.
pub(crate) fn unneeded(
    host: &Host<'_>,
    without: Option<&ProfileName>,
) -> Result<Option<Vec<String>>> {
    let (store, libvirt) = (host.store(), host.libvirt());
    let mut needed = Needed::default();
    let forks = store.forks_in_progress();
    for fork in &forks {
        let nodes = Profile::load(fork)?
            .into_iter()
            .flat_map(|profile| profile.nodes);
        needed.volumes.extend(nodes.map(|node| node.disk));
    }
    for name in store.profile_names()? {
        if Some(&name) == without {
            continue;
        }
        let profile = match Profile::load(&store.profile_dir(&name)) {
            Ok(Some(profile)) => profile,
            // The folder of a cluster that is being created, or of a fork that was cut short.
            Ok(None) => continue,
            // The needs of a damaged profile are not known: everything stays.
            Err(_) => return Ok(None),
        };
        needed.base(&profile);
        needed
            .volumes
            .extend(profile.nodes.into_iter().map(|node| node.disk));
    }
    // Also of domains whose profile is lost, or that are not deleted with their profile.
    for domain in libvirt.list_owned()? {
        // A machine keeps needing the file that its memory is mapped from.
        let mapped = libvirt.mapped_memory(&domain.name)?;
        let mapped = mapped.as_deref().and_then(file_name);
        let state = mapped.as_deref().and_then(state::id_of);
        needed.states.extend(state.map(str::to_owned));
        let disk = libvirt.root_disk(&domain.name)?;
        needed.volumes.extend(disk.as_deref().and_then(file_name));
    }
    for dir in saved_dirs(store, without, &forks)? {
        match dir.load() {
            Ok(Some(saved)) => needed.saved(&saved),
            Ok(None) => {}
            Err(_) => return Ok(None),
        }
    }
    let volumes = host.volumes()?;
    let volumes = volumes.all();
    needed.close(volumes);
    // Overlays first: no volume can lose what it builds on before it is removed itself.
    let mut unneeded: Vec<&Volume> = volumes.iter().filter(|v| !needed.has(&v.name)).collect();
    unneeded.sort_by_key(|v| depth(v, volumes));
    let names = unneeded.into_iter().rev().map(|v| v.name.clone());
    Ok(Some(names.collect()))
}

/// Returns the number of volumes that a volume builds on.
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
