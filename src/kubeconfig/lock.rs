//! The kubeconfig's lock, which kubectl respects. What a killed kubby leaves of it is removed by the
//! next one.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::write::unfinished;
use crate::error::{Error, Kind, Result, ResultExt as _};
use crate::process::ProcessMark;
use crate::{fault, fsutil, interrupt};

/// The longest wait for another program to finish with the file. kubectl holds its lock for
/// milliseconds, so a lock this old was left behind.
const DEADLINE: Duration = Duration::from_secs(10);

/// A lock as kubectl takes it: a file `<kubeconfig>.lock` that must not exist before. It is gone
/// when this is dropped. kubby's holds the mark of its process, kubectl's is empty.
#[derive(Debug)]
pub(super) struct FileLock(PathBuf);

impl Drop for FileLock {
    fn drop(&mut self) {
        if fault::is_killed() {
            return;
        }
        let _ = fs::remove_file(&self.0);
    }
}

/// Locks the file under the name that the user gave it, which is the one kubectl locks, and under
/// that of its link's target, where another link may lead as well.
///
/// # Errors
/// [`Kind::Kubeconfig`] when another program holds a lock for long, [`Kind::Interrupted`] on
/// Ctrl-C while waiting.
pub(super) fn lock(path: &Path, target: &Path) -> Result<Vec<FileLock>> {
    let named = |path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        PathBuf::from(name)
    };
    let mut names = vec![named(path), named(target)];
    // All programs take them in the same order, so that no two wait for each other.
    names.sort();
    names.dedup();
    let deadline = Instant::now() + DEADLINE;
    names
        .into_iter()
        .map(|name| lock_one(name, deadline))
        .collect()
}

pub(super) fn lock_one(name: PathBuf, deadline: Instant) -> Result<FileLock> {
    loop {
        if fault::step("lock the kubeconfig", || make(&name))? {
            return Ok(FileLock(name));
        }
        if !remove_left(&name) {
            if Instant::now() >= deadline {
                return Err(stale(&name));
            }
            interrupt::sleep(Duration::from_millis(10))?;
        }
    }
}

/// Makes the lock file, with its content from its first moment on; `false` if there is one.
fn make(name: &Path) -> Result<bool> {
    let fail = || format!("cannot make the lock file {}", name.display());
    let mut file = unfinished(fsutil::folder_of(name)).context(Kind::Kubeconfig, fail)?;
    writeln!(file, "kubby {}", ProcessMark::own()).context(Kind::Kubeconfig, fail)?;
    match file.persist_noclobber(name) {
        Ok(_) => Ok(true),
        Err(e) if e.error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e.error).context(Kind::Kubeconfig, fail),
    }
}

/// Removes a lock file whose kubby has ended and returns whether it did. Of two processes that find
/// the same one, the slower could remove the new lock of the faster: so only a process that has the
/// file itself locked removes it, and only while its name still leads to it.
fn remove_left(name: &Path) -> bool {
    // kubectl's own cannot be read, and is empty anyway.
    let Ok(file) = File::open(name) else {
        return false;
    };
    let left = fs::read_to_string(name)
        .ok()
        .and_then(|text| text.strip_prefix("kubby ")?.parse::<ProcessMark>().ok())
        .is_some_and(|mark| mark.is_gone());
    if !left {
        return false;
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return false,
        // A file system without locks: the slower process finds another file, or none.
        Err(TryLockError::Error(_)) => {}
    }
    let same = file
        .metadata()
        .is_ok_and(|a| fs::metadata(name).is_ok_and(|b| (a.ino(), a.dev()) == (b.ino(), b.dev())));
    same && fs::remove_file(name).is_ok()
}

fn stale(name: &Path) -> Error {
    let age = fs::symlink_metadata(name).and_then(|m| m.modified()).ok();
    let age = age
        .and_then(|t| t.elapsed().ok())
        .map_or(0, |age| age.as_secs());
    Error::kubeconfig(format!(
        "the kubeconfig is locked: {} was made {age} s ago",
        name.display()
    ))
    .with_hint(format!(
        "if no kubectl or kubby is running, it was left behind; remove it: rm -f '{}'",
        name.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark_of_the_dead() -> String {
        let own = ProcessMark::own().to_string();
        let (_, rest) = own.split_once(' ').unwrap();
        format!("kubby {} {rest}\n", u32::MAX)
    }

    #[test]
    fn what_a_killed_kubby_left_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config");
        let name = dir.path().join("config.lock");
        fs::write(&name, mark_of_the_dead()).unwrap();
        let held = lock(&config, &config).unwrap();
        assert_eq!(held.len(), 1);
        assert!(!remove_left(&name), "a living one's stays");
        drop(held);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_says_nothing_is_respected() {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().join("config.lock");
        for text in ["", "kubby", "kubby 1 2", "of another program"] {
            fs::write(&name, text).unwrap();
            assert!(!make(&name).unwrap());
            assert!(!remove_left(&name), "{text:?}");
        }
        assert!(stale(&name).to_string().contains("is locked"));
    }
}
