//! Folders in which a killed process was putting something together.

use std::path::{Path, PathBuf};

use super::listed;
use crate::cluster::{fork, layers};
use crate::doctor::finding::Finding;
use crate::doctor::repair::{Guard, Repair};
use crate::doctor::surroundings::Surroundings;
use crate::fsutil;
use crate::store::Store;

const NAME: &str = "leftover-folders";

/// How the names begin of folders in which components are made, before version and process.
const MAKING: &str = ".making-";

pub(in crate::doctor) fn look(s: &Surroundings<'_>) -> Vec<Finding> {
    let mut left = of_dead(s.store);
    // Saved states are made under the shared lock: who holds it may be at work on them.
    if !s.shared_busy {
        let unfinished = layers::unfinished(s.store).unwrap_or_default();
        left.extend(unfinished.into_iter().map(|path| (path, Guard::Shared)));
    }
    vec![judge(left)]
}

fn of_dead(store: &Store) -> Vec<(PathBuf, Guard)> {
    let images = store.cache().join("node-images");
    let components = store.cache().join("components");
    let mut dead = Vec::new();
    for (parent, prefix) in [
        (&store.profiles_dir(), fork::STAGING),
        (&images, fsutil::STAGING),
        (&components, fsutil::STAGING),
    ] {
        dead.extend(fsutil::of_processes(parent, prefix).1);
    }
    for (path, name) in entries(&components) {
        let process = name
            .strip_prefix(MAKING)
            .and_then(|rest| rest.rsplit_once('-'));
        if process.is_some_and(|(_, id)| !Path::new("/proc").join(id).exists()) {
            dead.push(path);
        }
    }
    let mut left: Vec<(PathBuf, Guard)> = dead.into_iter().map(|p| (p, Guard::None)).collect();
    for (path, name) in entries(&images) {
        if let Some(lock) = lock_of_image(&name).map(|lock| images.join(lock))
            && !fsutil::is_locked(&lock)
        {
            left.push((path, Guard::File(lock)));
        }
    }
    left
}

/// The lock that whoever makes a node image in a folder `.INPUTS.….tmp` holds.
fn lock_of_image(name: &str) -> Option<String> {
    let inner = name.strip_prefix('.')?.strip_suffix(".tmp")?;
    let (inputs, _) = inner.rsplit_once('.')?;
    Some(format!("{inputs}.lock"))
}

fn entries(parent: &Path) -> Vec<(PathBuf, String)> {
    let found = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let mut all: Vec<(PathBuf, String)> = found
        .filter_map(|e| Some((e.path(), e.file_name().into_string().ok()?)))
        .collect();
    all.sort();
    all
}

fn judge(left: Vec<(PathBuf, Guard)>) -> Finding {
    if left.is_empty() {
        return Finding::ok(NAME, "no process has left a folder half-made");
    }
    let paths = listed(left.iter().map(|(path, _)| path.as_path()));
    Finding::warning(
        NAME,
        format!("processes that have ended left these half-made: {paths}"),
        "kubby doctor --fix removes them",
    )
    .with(Repair::Remove(left))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// No process has this id: it is above what Linux gives.
    const DEAD: u32 = 4_200_000;

    #[test]
    fn folders_of_dead_processes_are_found_and_those_of_living_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(&dir.path().join("home"), &dir.path().join("cache"));
        let me = std::process::id();
        let (images, components) = ("cache/node-images", "cache/components");
        for folder in [
            format!("home/profiles/.fork-{DEAD}"),
            format!("home/profiles/.fork-{me}"),
            format!("{images}/.staging-{DEAD}-x"),
            format!("{images}/.staging-{me}-x"),
            format!("{images}/.free.x1.tmp"),
            format!("{images}/.held.x1.tmp"),
            format!("{images}/good-123"),
            format!("{components}/.making-v1.37.2-{DEAD}"),
            format!("{components}/.making-v1.37.2-{me}"),
            format!("{components}/v1.37.2-0123"),
        ] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let lock = dir.path().join(images).join("held.lock");
        let _held = fsutil::Lock::try_acquire(&lock).unwrap();
        let found: Vec<String> = of_dead(&store)
            .into_iter()
            .map(|(path, _)| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        let expected = [
            format!(".fork-{DEAD}"),
            format!(".staging-{DEAD}-x"),
            format!(".making-v1.37.2-{DEAD}"),
            ".free.x1.tmp".into(),
        ];
        assert_eq!(found, expected);
        assert!(judge(of_dead(&store)).fixable);
        assert!(!judge(vec![]).fixable);
    }

    #[test]
    fn an_image_in_the_making_is_known_by_its_lock() {
        assert_eq!(
            lock_of_image(".x86_64-2-ab.Rt9.tmp").as_deref(),
            Some("x86_64-2-ab.lock")
        );
        for other in ["x86_64-2-ab-cd", ".staging-1-x", ".tmp", "a.lock"] {
            assert_eq!(lock_of_image(other), None, "{other}");
        }
    }
}
