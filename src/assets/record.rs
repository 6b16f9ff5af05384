//! Records of files in the cache.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::download::copy;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::units::hex;

/// The size, digest and time of a file. The time only saves work: a file with the recorded size and
/// time counts as unchanged; with any other time it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileRecord {
    /// The size in bytes.
    pub(super) size: u64,
    /// The SHA-256 in lower-case hex.
    pub(super) sha256: String,
    modified: i64,
    #[serde(default)]
    modified_nanoseconds: i64,
}

impl FileRecord {
    /// Records a file as it is.
    ///
    /// # Errors
    /// [`Kind::Assets`] when it cannot be read or is empty; [`Kind::Interrupted`] on Ctrl-C.
    pub(super) fn of(path: &Path) -> Result<Self> {
        let meta = fs::metadata(path)
            .context(Kind::Assets, || format!("cannot read {}", path.display()))?;
        if meta.len() == 0 {
            let message = format!("{} is empty", path.display());
            return Err(Error::assets(message));
        }
        Ok(FileRecord {
            size: meta.len(),
            sha256: sha256_of_file(path)?,
            modified: meta.mtime(),
            modified_nanoseconds: meta.mtime_nsec(),
        })
    }

    /// Compares the file `name` in `dir` with its record, and records its time again where only
    /// that has changed.
    ///
    /// # Errors
    /// [`Kind::Assets`] when it differs or cannot be read; [`Kind::Interrupted`] on Ctrl-C.
    pub(super) fn check(&mut self, dir: &Path, name: &str) -> Result<()> {
        let path = dir.join(name);
        let bad = |why: String| Error::assets(format!("{name} {why}"));
        let meta = match fs::metadata(&path) {
            Ok(meta) if meta.is_file() => meta,
            Ok(_) => return Err(bad("is not a file".into())),
            Err(e) => return Err(bad(format!("cannot be read: {e}"))),
        };
        if meta.len() != self.size {
            return Err(bad(format!("has {} bytes, not {}", meta.len(), self.size)));
        }
        let time = (meta.mtime(), meta.mtime_nsec());
        if time != (self.modified, self.modified_nanoseconds) {
            if sha256_of_file(&path)? != self.sha256 {
                return Err(bad("was changed: it has another SHA-256".into()));
            }
            (self.modified, self.modified_nanoseconds) = time;
        }
        Ok(())
    }
}

/// Returns `None` for an entry of the cache that is damaged.
///
/// # Errors
/// Those of `checked` that do not say so.
pub(super) fn intact<T>(checked: Result<T>) -> Result<Option<T>> {
    match checked {
        Err(e) if e.kind() == Kind::Assets => Ok(None),
        checked => checked.map(Some),
    }
}

/// Returns the SHA-256 of a file in lower-case hex.
///
/// # Errors
/// [`Kind::Assets`] when it cannot be read; [`Kind::Interrupted`] on Ctrl-C.
pub(super) fn sha256_of_file(path: &Path) -> Result<String> {
    let fail = || format!("cannot read {}", path.display());
    let file = File::open(path).context(Kind::Assets, fail)?;
    let mut hash = Sha256::new();
    copy(file, &mut hash, fail, fail, |_| Ok(()))?;
    Ok(hex(&hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn files_are_checked_cheaply_and_hashed_in_doubt() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "one").unwrap();
        let record = FileRecord::of(&path).unwrap();
        let check = |record: &FileRecord| {
            let mut after = record.clone();
            after.check(dir.path(), "f").map(|()| after)
        };
        assert_eq!(check(&record).unwrap(), record);

        let later = SystemTime::now() + Duration::from_secs(9);
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(later)
            .unwrap();
        let renewed = check(&record).unwrap();
        assert_ne!(renewed, record);
        assert_eq!(check(&renewed).unwrap(), renewed);

        let refused = |text: &str, why: &str| {
            fs::write(&path, text).unwrap();
            let error = check(&renewed).unwrap_err();
            assert!(error.message().contains(why), "{error}");
        };
        refused("two", "SHA-256");
        refused("three", "5 bytes, not 3");
        fs::remove_file(&path).unwrap();
        assert!(
            check(&renewed)
                .unwrap_err()
                .message()
                .starts_with("f cannot be read")
        );
    }

    #[test]
    fn records_without_nanoseconds_are_understood() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "one").unwrap();
        let record = FileRecord::of(&path).unwrap();
        // As the manifests of node images were written first: all nanoseconds in one number.
        let old = format!(
            "{{\"size\":3,\"modified\":1700000000123456789,\"sha256\":\"{}\"}}",
            record.sha256
        );
        let mut old: FileRecord = serde_json::from_str(&old).unwrap();
        old.check(dir.path(), "f").unwrap();
        assert_eq!(old, record);
    }
}
