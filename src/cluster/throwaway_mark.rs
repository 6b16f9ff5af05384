//! The mark of a throwaway cluster: a file in the profile's folder that its process holds a lock on.
//! The kernel releases the lock however the process ends, so that no process id has to be trusted. A
//! mark that no process holds makes the cluster one that can be deleted.

use std::fs;
use std::path::PathBuf;

use crate::error::{Kind, Result, ResultExt};
use crate::fsutil::{self, Lock};
use crate::store::ProfileDir;

/// Makes an abandoned throwaway cluster an ordinary one, because the user starts it.
///
/// # Errors
/// [`Kind::Internal`] when the mark cannot be removed.
pub(crate) fn clear_abandoned(dir: &ProfileDir) -> Result<()> {
    if is_abandoned(dir)? {
        fsutil::remove_all(&dir.throwaway())?;
    }
    Ok(())
}

/// Empties the folder of a cluster that is about to be created, but for the mark of a living process.
///
/// # Errors
/// [`Kind::Internal`] when the file system refuses.
pub(crate) fn empty_folder(dir: &ProfileDir) -> Result<()> {
    if !is_held(dir)? {
        return fsutil::remove_all(dir.root());
    }
    let fail = || format!("cannot read {}", dir.root().display());
    for entry in fs::read_dir(dir.root()).context(Kind::Internal, fail)? {
        let path: PathBuf = entry.context(Kind::Internal, fail)?.path();
        if path != dir.throwaway() {
            fsutil::remove_all(&path)?;
        }
    }
    Ok(())
}

/// Returns whether there is a mark that no process holds.
///
/// # Errors
/// [`Kind::Internal`] when it cannot be read.
pub(crate) fn is_abandoned(dir: &ProfileDir) -> Result<bool> {
    Ok(Lock::is_held(&dir.throwaway())? == Some(false))
}

/// Returns whether there is a mark that a process holds.
///
/// # Errors
/// [`Kind::Internal`] when it cannot be read.
pub(crate) fn is_held(dir: &ProfileDir) -> Result<bool> {
    Ok(Lock::is_held(&dir.throwaway())? == Some(true))
}
