//! Advisory locks on files.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use super::{create_private_dir, folder_of, name_of};
use crate::error::{Error, Kind, Result, ResultExt};
use crate::interrupt;

/// Returns whether a process holds the lock on a file. A missing file is not locked, and is not made.
pub(crate) fn is_locked(path: &Path) -> bool {
    matches!(Lock::is_held(path), Ok(Some(true)))
}

/// An advisory lock on a file, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, waiting for the process that has it; `waiting` is called once before a wait begins.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the lock file cannot be made, [`Kind::Interrupted`] on Ctrl-C.
    pub fn acquire(path: &Path, waiting: impl FnOnce()) -> Result<Self> {
        Self::acquire_unless(path, || {
            waiting();
            Ok(())
        })
    }

    /// Takes the lock as [`acquire`](Self::acquire) does, but `waiting` may refuse to wait.
    ///
    /// # Errors
    /// Also what `waiting` fails with.
    pub fn acquire_unless(path: &Path, waiting: impl FnOnce() -> Result<()>) -> Result<Self> {
        let mut waiting = Some(waiting);
        loop {
            if let Some(lock) = Self::try_acquire(path)? {
                return Ok(lock);
            }
            if let Some(waiting) = waiting.take() {
                waiting()?;
            }
            interrupt::sleep(Duration::from_millis(100))?;
        }
    }

    /// Returns the process that has a lock, for people: `process 4711, kubby start -p dev`.
    pub fn process(path: &Path) -> Option<String> {
        let id: u32 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
        let line = fs::read(format!("/proc/{id}/cmdline")).ok()?;
        let words: Vec<_> = line
            .split(|byte| *byte == 0)
            .filter(|word| !word.is_empty())
            .map(|word| String::from_utf8_lossy(word).replace(|c: char| c.is_control(), " "))
            .collect();
        let (program, arguments) = words.split_first()?;
        let program = name_of(Path::new(program)).into_owned();
        let line: Vec<_> = std::iter::once(program.as_str())
            .chain(arguments.iter().map(String::as_str))
            .collect();
        let line: String = line.join(" ").chars().take(80).collect();
        Some(format!("process {id}, {line}"))
    }

    /// Returns whether a process, perhaps this one, holds the lock on a file; `None` where there is no
    /// such file.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the file cannot be opened or locked.
    pub fn is_held(path: &Path) -> Result<Option<bool>> {
        let fail = || format!("cannot look at {}", path.display());
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).context(Kind::Internal, fail),
        };
        // Shared, so that two processes that look never take each other for the holder.
        match file.try_lock_shared() {
            Err(fs::TryLockError::WouldBlock) => Ok(Some(true)),
            Err(fs::TryLockError::Error(e)) => Err(e).context(Kind::Internal, fail),
            // It may have been removed between the two.
            Ok(()) => Ok(path.exists().then_some(false)),
        }
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the lock file cannot be made or locked.
    pub fn try_acquire(path: &Path) -> Result<Option<Self>> {
        let fail = || format!("cannot lock {}", path.display());
        loop {
            let opened = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(path);
            let file = match opened {
                // The deletion of the last profile removes the folder of locks.
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    create_private_dir(folder_of(path))?;
                    continue;
                }
                opened => opened.context(Kind::Internal, fail)?,
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => return Ok(None),
                Err(fs::TryLockError::Error(e)) => {
                    return Err(Error::internal(fail()).with_source(e));
                }
            }
            // The process that had the lock may have deleted the file with its directory: then this
            // lock is on a file that no other process will open, so take the one that is there now.
            let same = match (file.metadata(), fs::metadata(path)) {
                (Ok(a), Ok(b)) => a.ino() == b.ino() && a.dev() == b.dev(),
                _ => false,
            };
            if same {
                // For people who wait; nothing depends on it.
                let _ = file.set_len(0);
                let _ = writeln!(&file, "{}", std::process::id());
                return Ok(Some(Lock { _file: file }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_excludes_a_second_one_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::try_acquire(&path).unwrap();
        assert!(first.is_some());
        assert!(Lock::try_acquire(&path).unwrap().is_none());
        drop(first);
        assert!(Lock::try_acquire(&path).unwrap().is_some());
    }

    #[test]
    fn looking_for_a_lock_makes_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert!(!is_locked(&path) && !path.exists());
        let held = Lock::try_acquire(&path).unwrap();
        assert!(is_locked(&path));
        drop(held);
        assert!(!is_locked(&path));
    }
}
