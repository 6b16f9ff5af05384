//! The volumes of storage pools, and what is on a node's disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

/// Returns a folder in memory, where writing costs little.
pub(super) fn ram_disk() -> PathBuf {
    let shared = Path::new("/dev/shm");
    match shared.is_dir() {
        true => shared.to_owned(),
        false => std::env::temp_dir(),
    }
}

/// A file in a node: its mode and its content.
pub(super) type GuestFile = (u32, Arc<[u8]>);

/// The content of a node's disk. An overlay begins with that of the disk below it.
#[derive(Clone, Default)]
pub(super) struct Content {
    /// Differs for each content: a machine changes it when it begins to run.
    pub(super) version: u64,
    /// The files.
    pub(super) files: Arc<BTreeMap<String, GuestFile>>,
    /// The objects of Kubernetes, by their paths.
    pub(super) objects: Arc<BTreeMap<String, Value>>,
    /// The upload of the seed that was unpacked last.
    pub(super) seed: u64,
    /// The last thing that the user has written.
    pub(super) data: u64,
}

impl Content {
    /// Returns a file as text; empty where there is none.
    pub(super) fn text(&self, path: &str) -> String {
        let file = self.files.get(path);
        file.map_or_else(String::new, |(_, bytes)| {
            String::from_utf8_lossy(bytes).trim().to_owned()
        })
    }

    /// Writes a file.
    pub(super) fn write(&mut self, path: &str, mode: u32, bytes: impl Into<Arc<[u8]>>) {
        Arc::make_mut(&mut self.files).insert(path.to_owned(), (mode, bytes.into()));
    }
}

/// A volume of a pool.
#[derive(Clone, Default)]
pub(super) struct Volume {
    /// Its upload came to its end.
    pub(super) uploaded: bool,
    /// The path of the volume that it is an overlay of.
    pub(super) backing: Option<PathBuf>,
    /// The version of that volume's content when the overlay was made, which must not change.
    pub(super) backing_version: u64,
    /// The bytes that were uploaded, and the number of the upload.
    pub(super) bytes: Option<(u64, Arc<[u8]>)>,
    /// The content of a node's disk.
    pub(super) disk: Option<Content>,
}

/// Gives a disk's file a size that only this version of its content has, so that its stamp changes with
/// the content, however little time passes between two changes.
pub(super) fn mark_version(path: &Path, version: u64) {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    file.and_then(|file| file.set_len(version)).unwrap();
}
