//! A folder of the cache whose entries appear complete, by a rename, and never change after that.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Kind, Result, ResultExt};
use crate::fsutil::{self, Lock};

/// A folder of entries.
#[derive(Debug)]
pub(super) struct Cache {
    /// The folder itself.
    pub(super) root: PathBuf,
}

impl Cache {
    /// Opens the folder `name` of kubby's cache, and makes it where needed.
    ///
    /// # Errors
    /// [`Kind::Internal`] when it cannot be made.
    pub(super) fn open(cache: &Path, name: &str) -> Result<Self> {
        let root = cache.join(name);
        fsutil::create_private_dir(&root)?;
        Ok(Cache { root })
    }

    /// Takes the lock that a process holds while it makes or removes entries of `name`; `waiting` is
    /// called with the path of the lock before a wait begins.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the lock cannot be made; [`Kind::Interrupted`] on Ctrl-C.
    pub(super) fn lock(&self, name: &str, waiting: impl FnOnce(&Path)) -> Result<Lock> {
        let file = self.root.join(format!("{name}.lock"));
        Lock::acquire(&file, || waiting(&file))
    }

    /// Returns the folders whose names begin with `prefix`, sorted.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the cache cannot be read.
    pub(super) fn entries(&self, prefix: &str) -> Result<Vec<PathBuf>> {
        let fail = || format!("cannot read {}", self.root.display());
        let mut out = Vec::new();
        for entry in fs::read_dir(&self.root).context(Kind::Internal, fail)? {
            let entry = entry.context(Kind::Internal, fail)?;
            if entry.file_name().to_string_lossy().starts_with(prefix) && entry.path().is_dir() {
                out.push(entry.path());
            }
        }
        out.sort();
        Ok(out)
    }

    /// Removes the folders that killed processes have left whose names begin with `prefix`. Only for
    /// the holder of the lock.
    ///
    /// # Errors
    /// [`Kind::Internal`] when one cannot be removed.
    pub(super) fn clean(&self, prefix: &str) -> Result<()> {
        let left = self.entries(prefix)?;
        left.iter().try_for_each(|path| fsutil::remove_all(path))
    }

    /// Makes a private folder to put an entry together in. It is removed when it is dropped.
    ///
    /// # Errors
    /// [`Kind::Internal`] when it cannot be made.
    pub(super) fn work(&self, prefix: &str, suffix: &str) -> Result<tempfile::TempDir> {
        tempfile::Builder::new()
            .prefix(prefix)
            .suffix(suffix)
            // A build by an ordinary user leaves a file in it open to other users for a while.
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&self.root)
            .context(Kind::Internal, || {
                format!("cannot make a folder in {}", self.root.display())
            })
    }

    /// Makes a folder the entry `name`, in place of one with the same name.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the file system refuses.
    pub(super) fn publish(&self, from: &Path, name: &str) -> Result<PathBuf> {
        let entry = self.root.join(name);
        fsutil::remove_all(&entry)?;
        fsutil::rename(from, &entry).context(Kind::Internal, || {
            format!("cannot rename {} to {}", from.display(), entry.display())
        })?;
        Ok(entry)
    }
}

/// Writes files to the disk: after a power loss a file can have its size and time, but not its
/// content.
///
/// # Errors
/// [`Kind::Assets`] when a file is missing or the disk fails.
pub(super) fn sync(dir: &Path, names: &[&str]) -> Result<()> {
    for path in names.iter().map(|name| dir.join(name)) {
        File::open(&path)
            .and_then(|file| file.sync_all())
            .context(Kind::Assets, || format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
