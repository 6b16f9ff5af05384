//! Folders in which a killed process was putting something together.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::listed;
use crate::cluster::saved::fork;
use crate::cluster::saved::garbage;
use crate::doctor::finding::Finding;
use crate::doctor::repair::{Guard, Repair};
use crate::doctor::surroundings::Surroundings;
use crate::fsutil;
use crate::image::build::{PRIVATE as BUILD, SOCKET as BUILD_SOCKET};
use crate::store::Store;

const NAME: &str = "leftover-folders";

/// How the names begin of folders in which components are made, before version and process.
const MAKING: &str = ".making-";

pub(in crate::doctor) fn look(s: &Surroundings<'_>) -> Vec<Finding> {
    let mut left = of_dead(s.store);
    let builds = builds(&std::env::temp_dir());
    left.extend(builds.into_iter().map(|path| (path, Guard::None)));
    // Saved states are made under the shared lock: who holds it may be at work on them.
    if !s.shared_busy {
        let unfinished = garbage::unfinished(s.store).unwrap_or_default();
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

/// The private folders of image builds whose process no longer listens on the socket in them.
fn builds(parent: &Path) -> Vec<PathBuf> {
    let me = rustix::process::geteuid().as_raw();
    let of_build = entries(parent).into_iter().filter(|(path, name)| {
        let mine = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.uid() == me);
        mine && name.starts_with(BUILD)
    });
    of_build
        .map(|(path, _)| path)
        .filter(|path| {
            // Refused, not missing: one that is being made has no socket yet.
            let connected = UnixStream::connect(path.join(BUILD_SOCKET));
            connected.is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
        })
        .collect()
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
    use std::os::unix::net::UnixListener;

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
    fn folders_of_builds_are_known_by_their_socket() {
        let dir = tempfile::tempdir().unwrap();
        let socket = |name: &str| {
            let folder = dir.path().join(format!("{BUILD}{name}"));
            fs::create_dir(&folder).unwrap();
            folder.join(BUILD_SOCKET)
        };
        let _living = UnixListener::bind(socket("living")).unwrap();
        drop(UnixListener::bind(socket("dead")).unwrap());
        socket("new");
        let dead = dir.path().join(format!("{BUILD}dead"));
        assert_eq!(builds(dir.path()), [dead]);
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
