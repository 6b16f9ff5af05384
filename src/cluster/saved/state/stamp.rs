//! The outside of a file, which shows whether it was changed.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A file's identity, size and times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stamp {
    /// The size in bytes.
    pub size: u64,
    inode: u64,
    /// Nanoseconds since 1970.
    modified: i64,
    /// The time of the last change, modes and times included; no program can set it.
    changed: i64,
}

impl Stamp {
    /// The stamp of a file; nothing where there is none.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        let nanoseconds =
            |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Some(Stamp {
            size: meta.len(),
            inode: meta.ino(),
            modified: nanoseconds(meta.mtime(), meta.mtime_nsec()),
            changed: nanoseconds(meta.ctime(), meta.ctime_nsec()),
        })
    }

    /// Returns the stamp of a file that has to exist.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) when it does not.
    pub(crate) fn require(path: &Path) -> Result<Self> {
        Stamp::of(path)
            .ok_or_else(|| Error::state(format!("the file {} does not exist", path.display())))
    }

    /// Returns whether the content is the same by size, file and time. Looser than equality, for files
    /// whose owner libvirt changes.
    pub(crate) fn same_content(&self, other: &Stamp) -> bool {
        (self.size, self.inode, self.modified) == (other.size, other.inode, other.modified)
    }
}
