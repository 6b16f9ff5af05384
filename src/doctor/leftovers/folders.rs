//! Folders in which a killed process was putting something together.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::judge;
use crate::cluster::saved::garbage;
use crate::doctor::context::DoctorContext;
use crate::doctor::files::{entries, name};
use crate::doctor::finding::Finding;
use crate::doctor::repair::Guard;
use crate::fsutil;
use crate::image::build::{PRIVATE as BUILD, SOCKET as BUILD_SOCKET};
use crate::store::{FORK_STAGING, Store};

/// The beginning of the names of folders in which components are made, before version and process.
const MAKING: &str = ".making-";

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    let mut left = of_dead(s.env.store);
    let builds = builds(&s.env.backend.temporary_folder());
    left.extend(builds.into_iter().map(|path| (path, Guard::None)));
    // Saved states are made under the shared lock: its holder may be making one.
    if !s.shared_busy {
        let unfinished = garbage::unfinished(s.env.store).unwrap_or_default();
        left.extend(unfinished.into_iter().map(|path| (path, Guard::Shared)));
    }
    vec![judge(
        left,
        "no process has left a folder unfinished",
        "processes that have ended left these unfinished",
    )]
}

fn of_dead(store: &Store) -> Vec<(PathBuf, Guard)> {
    let images = store.cache().join("node-images");
    let components = store.cache().join("components");
    let mut dead = Vec::new();
    for (parent, prefix) in [
        (&store.profiles_dir(), FORK_STAGING),
        (&images, fsutil::STAGING),
        (&components, fsutil::STAGING),
    ] {
        dead.extend(fsutil::of_processes(parent, prefix).1);
    }
    dead.extend(entries(&components).into_iter().filter(|path| {
        let making = name(path).strip_prefix(MAKING);
        let process = making.and_then(|rest| rest.rsplit_once('-'));
        process.is_some_and(|(_, id)| !Path::new("/proc").join(id).exists())
    }));
    let mut left: Vec<(PathBuf, Guard)> = dead.into_iter().map(|p| (p, Guard::None)).collect();
    for path in entries(&images) {
        if let Some(lock) = lock_of_image(name(&path)).map(|lock| images.join(lock))
            && !fsutil::is_locked(&lock)
        {
            left.push((path, Guard::File(lock)));
        }
    }
    left
}

/// Returns the private folders of image builds whose process no longer listens on the socket in them.
fn builds(parent: &Path) -> Vec<PathBuf> {
    let me = rustix::process::geteuid().as_raw();
    let mut found = entries(parent);
    found.retain(|path| {
        let mine = || path.symlink_metadata().is_ok_and(|meta| meta.uid() == me);
        // Refused, not missing: a folder that is being made has no socket yet.
        let refuses = || {
            let connected = UnixStream::connect(path.join(BUILD_SOCKET));
            connected.is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
        };
        name(path).starts_with(BUILD) && mine() && refuses()
    });
    found
}

/// Returns the lock that a process holds while it makes a node image in a folder `.INPUTS.….tmp`.
fn lock_of_image(name: &str) -> Option<String> {
    let inner = name.strip_prefix('.')?.strip_suffix(".tmp")?;
    let (inputs, _) = inner.rsplit_once('.')?;
    Some(format!("{inputs}.lock"))
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
