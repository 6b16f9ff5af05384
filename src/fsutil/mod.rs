//! Private directories, files that are whole or not there, advisory locks.

mod lock;
mod output;

pub(crate) use lock::{Lock, is_locked};
#[cfg(test)]
pub(crate) use output::UNFINISHED;
pub use output::write_atomic;
pub(crate) use output::{Digesting, Output, WholeFile, check_destination, remove_unfinished};

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};

use crate::error::{Kind, Result, ResultExt};
use crate::{fault, process};

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

/// Returns the last part of a path, for people.
fn name_of(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// Gives a file or directory its final name.
///
/// # Errors
/// When the file system refuses.
pub(crate) fn rename(from: &Path, to: &Path) -> std::io::Result<()> {
    fault::step(&format!("rename to {}", name_of(to)), || {
        fs::rename(from, to)
    })
}

/// Gives a folder its final name in one step, also where another folder has that, which is removed.
///
/// # Errors
/// [`Kind::Internal`] when the file system refuses.
pub(crate) fn replace_folder(from: &Path, to: &Path) -> Result<()> {
    let exchange = || {
        fault::step(&format!("exchange {}", name_of(to)), || {
            rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE)
        })
    };
    if to.exists() {
        if exchange().is_ok() {
            return remove_all(from);
        }
        // Not every file system can exchange two names.
        remove_all(to)?;
    }
    rename(from, to).context(Kind::Internal, || {
        format!("cannot move {} to {}", from.display(), to.display())
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

/// Removes a file or a directory tree; a missing one is fine.
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

/// Returns the folder that a path's last part is in: the current one for a mere name.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Returns the path with symbolic links and `..` resolved, as far as it exists; the rest is taken as it
/// is written.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    let mut found = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                found.pop();
            }
            part => found.push(part),
        }
        if let Ok(real) = fs::canonicalize(&found) {
            found = real;
        }
    }
    found
}

/// Returns whether two paths name one place, however they are written: symbolic links are followed
/// where both are there; else only `//`, `.` and a slash at the end make no difference.
pub(crate) fn same_place(a: &Path, b: &Path) -> bool {
    // `==` of paths compares their components.
    a == b || matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

/// Returns the entries of `parent` that are named `prefix` and the id of a running process, and removes
/// those of processes that have ended. What follows the id after a hyphen does not count.
///
/// # Errors
/// [`Kind::Internal`] when one cannot be removed.
pub(crate) fn of_living_processes(parent: &Path, prefix: &str) -> Result<Vec<PathBuf>> {
    let (living, dead) = of_processes(parent, prefix);
    for path in dead {
        remove_all(&path)?;
    }
    Ok(living)
}

/// Returns the entries of `parent` that are named `prefix` and the id of a process: those of running
/// processes, and those of processes that have ended.
pub(crate) fn of_processes(parent: &Path, prefix: &str) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut living, mut dead) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(prefix)) else {
            continue;
        };
        let id = rest.split_once('-').map_or(rest, |(id, _)| id);
        let Ok(id) = id.parse() else {
            continue;
        };
        if process::is_running(id) {
            living.push(entry.path());
        } else {
            dead.push(entry.path());
        }
    }
    (living, dead)
}

/// The prefix, before the process's id, of the names of folders in which something is put together.
pub(crate) const STAGING: &str = ".staging-";

/// Makes a private folder in `parent` in which this process puts something together, and removes
/// those that killed processes have left. It is removed when it is dropped.
///
/// # Errors
/// [`Kind::Internal`] when it cannot be made.
pub(crate) fn staging_dir(parent: &Path) -> Result<tempfile::TempDir> {
    of_living_processes(parent, STAGING)?;
    tempfile::Builder::new()
        .prefix(&format!("{STAGING}{}-", process::id()))
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(parent)
        .context(Kind::Internal, || {
            format!("cannot make a folder in {}", parent.display())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removing_what_is_not_there_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        remove_all(&dir.path().join("nothing")).unwrap();
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
}
