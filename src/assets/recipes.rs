//! The recipes of `images/`, embedded in the binary so that an installed kubby can build its
//! images without the checkout.

use std::path::Path;

use rust_embed::RustEmbed;
use sha2::{Digest, Sha256};

use crate::error::{Kind, Result, ResultExt};
use crate::fsutil;
use crate::units::hex;

#[derive(RustEmbed)]
#[folder = "images/"]
struct Images;

/// Returns the files under a folder of `images/` (such as `node` or `components/kube`), by path
/// relative to it, sorted; without tests, which go into no image.
pub(crate) fn files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let prefix = format!("{folder}/");
    let mut out: Vec<(String, Vec<u8>)> = Images::iter()
        .filter(|path| !path.ends_with("_test.go"))
        .filter_map(|path| {
            let relative = path.strip_prefix(&prefix)?.to_owned();
            Some((relative, Images::get(&path)?.data.into_owned()))
        })
        .collect();
    out.sort();
    out
}

/// Returns a SHA-256 in lower-case hex over the names and contents of a recipe folder: the part of
/// a cache key that changes when a recipe changes.
pub(crate) fn digest(folder: &str) -> String {
    let mut hash = Sha256::new();
    for (path, content) in files(folder) {
        for part in [path.as_bytes(), &content] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    hex(&hash.finalize())
}

/// Writes a recipe folder's files below `destination`.
///
/// # Errors
/// [`Kind::Assets`] or [`Kind::Internal`] when the file system refuses.
pub(crate) fn unpack(folder: &str, destination: &Path) -> Result<()> {
    for (path, content) in files(folder) {
        let target = destination.join(path);
        if let Some(parent) = target.parent() {
            fsutil::create_private_dir(parent)?;
        }
        std::fs::write(&target, content).context(Kind::Assets, || {
            format!("cannot write {}", target.display())
        })?;
    }
    Ok(())
}
