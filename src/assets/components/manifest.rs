//! `manifest.json` of a cached set: what it is, what it was made from, what its files must be.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::inputs::Inputs;
use crate::error::{Kind, Result, ResultExt};

/// The format of [`Manifest`]; a set of another format is left to the kubby that made it.
pub(super) const FORMAT: u32 = 2;

/// The manifest in a cache entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub format: u32,
    pub key: String,
    pub inputs: Inputs,
    pub images: Images,
    pub volume: FileRecord,
    pub kubectl: FileRecord,
    pub buildctl: FileRecord,
}

/// The references of the images in a volume, by the names of their archives in `/images`.
pub(super) type Images = BTreeMap<String, String>;

/// What a file must be. The modification time is only a shortcut: a file with the recorded size
/// and time is taken as unchanged, any other time costs a hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileRecord {
    pub size: u64,
    pub sha256: String,
    pub modified: i64,
    pub modified_nanoseconds: i64,
}

/// How a file compares with its record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Check {
    Good,
    /// Good as well, by its digest: the record is to be renewed.
    Touched(FileRecord),
    /// With the reason, for people.
    Bad(String),
}

impl FileRecord {
    pub(super) fn of(path: &Path) -> Result<Self> {
        let fail = || format!("cannot read {}", path.display());
        let meta = fs::metadata(path).context(Kind::Assets, fail)?;
        Ok(FileRecord {
            size: meta.len(),
            sha256: sha256(path).context(Kind::Assets, fail)?,
            modified: meta.mtime(),
            modified_nanoseconds: meta.mtime_nsec(),
        })
    }

    pub(super) fn check(&self, path: &Path) -> Check {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let meta = match fs::metadata(path) {
            Ok(meta) if meta.is_file() => meta,
            Ok(_) => return Check::Bad(format!("{name} is not a file")),
            Err(e) => return Check::Bad(format!("{name}: {e}")),
        };
        if meta.len() != self.size {
            return Check::Bad(format!(
                "{name} has {} bytes, not {}",
                meta.len(),
                self.size
            ));
        }
        if (meta.mtime(), meta.mtime_nsec()) == (self.modified, self.modified_nanoseconds) {
            return Check::Good;
        }
        match FileRecord::of(path) {
            Ok(now) if now.sha256 == self.sha256 => Check::Touched(now),
            Ok(_) => Check::Bad(format!("{name} has another SHA-256")),
            Err(e) => Check::Bad(e.to_string()),
        }
    }
}

/// The SHA-256 of a file in hex.
pub(super) fn sha256(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hex(&hash.finalize()))
}

pub(super) use crate::units::hex;

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
        assert_eq!(record.check(&path), Check::Good);

        let later = SystemTime::now() + Duration::from_secs(9);
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(later)
            .unwrap();
        let Check::Touched(renewed) = record.check(&path) else {
            panic!("not touched")
        };
        assert_eq!(renewed.check(&path), Check::Good);

        fs::write(&path, "two").unwrap();
        assert!(matches!(renewed.check(&path), Check::Bad(why) if why.contains("SHA-256")));
        fs::write(&path, "three").unwrap();
        assert!(matches!(renewed.check(&path), Check::Bad(why) if why.contains("5 bytes, not 3")));
        fs::remove_file(&path).unwrap();
        assert!(matches!(renewed.check(&path), Check::Bad(_)));
    }
}
