//! The folder in which a set is put together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The references of the images in a volume, by the names of their archives in `/images`.
pub(super) type Images = BTreeMap<String, String>;

/// The folders in which a set is put together: `bin` and `images`, and what is beside them, become
/// the volume.
#[derive(Debug, Default)]
pub(super) struct Stage {
    pub bin: PathBuf,
    pub images: PathBuf,
    /// For files that are not part of the set.
    pub work: PathBuf,
    /// The references of the images that are there.
    pub references: Images,
}

impl Stage {
    /// Returns the folder that becomes the volume.
    pub(super) fn root(&self) -> &Path {
        self.bin.parent().unwrap_or(&self.bin)
    }

    /// Returns the path of an image's archive.
    pub(super) fn image(&self, name: &str) -> PathBuf {
        self.images.join(format!("{name}.tar"))
    }
}
