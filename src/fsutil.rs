//! Files that are whole or not there: private directories, writes by temporary file and rename,
//! advisory locks.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result, ResultExt};
use crate::fault;

/// How the names of files begin that get their own name when they are complete.
const UNFINISHED: &str = ".kubby-";

/// Makes a directory and its parents with mode 0700; a directory that is there stays as it is.
///
/// # Errors
/// [`Kind::Internal`] when the file system refuses.
pub fn create_private_dir(path: &Path) -> Result<()> {
    let create = || {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
    };
    create()
        // Another kubby may remove a parent that is empty at the same moment.
        .or_else(|_| create())
        .context(Kind::Internal, || {
            format!("cannot create the directory {}", path.display())
        })
}

/// Replaces a file's content atomically: written to a temporary file in the same directory,
/// synced, then renamed over the old one. `mode` is the file's mode, such as `0o600`.
///
/// # Errors
/// [`Kind::Internal`] when the file system refuses; the old file is then untouched.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let what = || format!("write {}", name_of(path));
    fault::point("before", &what());
    let fail = || format!("cannot write {}", path.display());
    let dir = folder_of(path);
    let mut file = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .permissions(fs::Permissions::from_mode(mode))
        .tempfile_in(dir)
        .context(Kind::Internal, fail)?;
    file.write_all(content).context(Kind::Internal, fail)?;
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(mode))
        .context(Kind::Internal, fail)?;
    file.as_file().sync_all().context(Kind::Internal, fail)?;
    fault::point("staged", &what());
    file.persist(path).context(Kind::Internal, fail)?;
    // The rename itself must survive a power loss as well.
    if let Ok(dir) = File::open(dir) {
        let _ = dir.sync_all();
    }
    fault::point("after", &what());
    Ok(())
}

/// The last part of a path, for people.
fn name_of(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// Removes from a directory tree what [`write_atomic`] left where its process was killed. Nobody
/// else may work in the tree meanwhile.
///
/// # Errors
/// [`Kind::Internal`] when one cannot be removed.
pub fn remove_unfinished(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_unfinished(&path)?;
        } else if name_of(&path).starts_with(UNFINISHED) {
            remove_all(&path)?;
        }
    }
    Ok(())
}

/// Gives a file or directory its final name.
///
/// # Errors
/// When the file system refuses.
pub fn rename(from: &Path, to: &Path) -> std::io::Result<()> {
    fault::step(&format!("rename to {}", name_of(to)), || {
        fs::rename(from, to)
    })
}

/// Copies a directory tree of the user's secrets: directories 0700, files as they are. A source
/// that is not there is fine.
///
/// # Errors
/// [`Kind::Internal`] when the file system refuses.
pub fn copy_private(from: &Path, to: &Path) -> Result<()> {
    let fail = || format!("cannot copy {} to {}", from.display(), to.display());
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).context(Kind::Internal, fail),
    };
    create_private_dir(to)?;
    for entry in entries {
        let entry = entry.context(Kind::Internal, fail)?;
        let target = to.join(entry.file_name());
        if entry.file_type().context(Kind::Internal, fail)?.is_dir() {
            copy_private(&entry.path(), &target)?;
        } else {
            // With the modes of the original, which are 0600 where they have to be.
            fs::copy(entry.path(), &target).context(Kind::Internal, fail)?;
            fault::point("after", &format!("copy {}", name_of(&target)));
        }
    }
    Ok(())
}

/// Removes a file or a directory tree; one that is not there is fine.
///
/// # Errors
/// [`Kind::Internal`] when it is there and cannot be removed.
pub fn remove_all(path: &Path) -> Result<()> {
    let result = match fs::symlink_metadata(path) {
        Ok(meta) => fault::step(&format!("remove {}", name_of(path)), || {
            if meta.is_dir() {
                fs::remove_dir_all(path)
            } else {
                fs::remove_file(path)
            }
        }),
        Err(e) => Err(e),
    };
    match result {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e)
            .context(Kind::Internal, || {
                format!("cannot remove {}", path.display())
            }),
        _ => Ok(()),
    }
}

/// The folder that a path's last part is in: the current one for a mere name.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Returns whether two paths name one place, however they are written: symbolic links are followed
/// where both are there; else only `//`, `.` and a slash at the end make no difference.
pub fn same_place(a: &Path, b: &Path) -> bool {
    match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        // `==` of paths compares their components.
        _ => a == b,
    }
}

/// The entries of `parent` that are named `prefix` and the id of a process that runs. Those of
/// processes that have ended, which left them behind, are removed. What follows the id after a
/// hyphen does not count.
///
/// # Errors
/// [`Kind::Internal`] when one cannot be removed.
pub fn of_living_processes(parent: &Path, prefix: &str) -> Result<Vec<PathBuf>> {
    let (living, dead) = of_processes(parent, prefix);
    for path in dead {
        remove_all(&path)?;
    }
    Ok(living)
}

/// The entries of `parent` that are named `prefix` and the id of a process: those of processes
/// that run, and those of processes that have ended. Nothing is changed.
pub fn of_processes(parent: &Path, prefix: &str) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut living, mut dead) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(prefix)) else {
            continue;
        };
        let process = rest.split_once('-').map_or(rest, |(process, _)| process);
        if process.parse::<u32>().is_err() {
            continue;
        }
        if Path::new("/proc").join(process).exists() {
            living.push(entry.path());
        } else {
            dead.push(entry.path());
        }
    }
    (living, dead)
}

/// How the names of folders begin in which something is put together, before the process's id.
pub const STAGING: &str = ".staging-";

/// Makes a private folder in `parent` in which this process puts something together, and removes
/// those that killed processes have left. It goes when it is dropped.
///
/// # Errors
/// [`Kind::Internal`] when it cannot be made.
pub fn staging_dir(parent: &Path) -> Result<tempfile::TempDir> {
    of_living_processes(parent, STAGING)?;
    tempfile::Builder::new()
        .prefix(&format!("{STAGING}{}-", std::process::id()))
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(parent)
        .context(Kind::Internal, || {
            format!("cannot make a folder in {}", parent.display())
        })
}

/// Whether anybody holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// Some process has it, perhaps this one.
    Somebody,
    /// The file is there, and nobody has the lock.
    Nobody,
}

/// Whether a process holds the lock on a file. One that is not there is not locked, and is not made.
pub fn is_locked(path: &Path) -> bool {
    matches!(Lock::holder(path), Ok(Some(Holder::Somebody)))
}

/// An advisory lock on a file, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, waiting for whoever has it; `waiting` is called once before a wait begins.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the lock file cannot be made, [`Kind::Interrupted`] on Ctrl-C.
    pub fn acquire(path: &Path, waiting: impl FnOnce()) -> Result<Self> {
        Self::acquire_unless(path, || {
            waiting();
            Ok(())
        })
    }

    /// [`acquire`](Self::acquire) where `waiting` may refuse to wait.
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
            crate::interrupt::sleep(std::time::Duration::from_millis(100))?;
        }
    }

    /// Who has a lock, for people: `process 4711, kubby start -p dev`.
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

    /// Who holds the lock on a file; `None` where there is no such file.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the file cannot be opened or locked.
    pub fn holder(path: &Path) -> Result<Option<Holder>> {
        let fail = || format!("cannot look at {}", path.display());
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).context(Kind::Internal, fail),
        };
        // Shared, so that two who look never take each other for its holder.
        match file.try_lock_shared() {
            Err(fs::TryLockError::WouldBlock) => Ok(Some(Holder::Somebody)),
            Err(fs::TryLockError::Error(e)) => Err(e).context(Kind::Internal, fail),
            // It may have been removed between the two.
            Ok(()) => Ok(path.exists().then_some(Holder::Nobody)),
        }
    }

    /// Takes the lock if nobody has it.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the lock file cannot be made or locked.
    pub fn try_acquire(path: &Path) -> Result<Option<Self>> {
        use std::os::unix::fs::MetadataExt;
        let fail = || format!("cannot lock {}", path.display());
        loop {
            let opened = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(path);
            let file = match opened {
                // Whoever deletes the last profile removes the folder of locks.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    create_private_dir(folder_of(path))?;
                    continue;
                }
                opened => opened.context(Kind::Internal, fail)?,
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => return Ok(None),
                Err(fs::TryLockError::Error(e)) => {
                    return Err(Error::new(Kind::Internal, fail()).with_source(e));
                }
            }
            // Whoever had the lock may have deleted the file with its directory: then this lock
            // is on a file that nobody else will ever open, so take the one that is there now.
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
    fn atomic_write_sets_the_mode_and_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write_atomic(&path, b"one", 0o600).unwrap();
        write_atomic(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

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

    #[test]
    fn a_place_is_one_however_its_path_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        let link = dir.path().join("link");
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        let text = real.to_str().unwrap();
        for other in [
            format!("{text}/"),
            text.replace("/real", "//./real"),
            format!("{text}/../real"),
            link.to_str().unwrap().to_owned(),
        ] {
            assert!(same_place(&real, Path::new(&other)), "{other}");
            assert!(same_place(Path::new(&other), &real), "{other}");
        }
        assert!(!same_place(&real, dir.path()));
    }

    #[test]
    fn places_that_are_not_there_are_compared_by_their_names() {
        let same = |a: &str, b: &str| same_place(Path::new(a), Path::new(b));
        assert!(same("/nowhere/a", "/nowhere//a/"));
        assert!(same("/nowhere/./a", "/nowhere/a"));
        assert!(!same("/nowhere/a", "/nowhere/b"));
        assert!(!same("/nowhere/a", "/nowhere/a/b"));
        assert!(!same("/nowhere", "/"), "only one is there");
    }

    #[test]
    fn removing_what_is_not_there_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        remove_all(&dir.path().join("nothing")).unwrap();
    }
}
