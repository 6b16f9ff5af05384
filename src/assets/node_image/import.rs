//! Images that come from another host's cache, in a template.

use std::path::Path;

use super::store::Store;
use super::{NodeImage, manifest, qcow2};
use crate::assets::record;
use crate::error::{Error, Kind, Result};
use crate::fsutil;

/// Returns the intact image with this key, if it is in the cache.
///
/// # Errors
/// [`Kind::Internal`] when the cache cannot be used, [`Kind::Interrupted`].
pub(crate) fn load(cache: &Path, key: &str) -> Result<Option<NodeImage>> {
    check_key(key)?;
    let dir = Store::open(cache)?.cache.root.join(key);
    if !dir.is_dir() {
        return Ok(None);
    }
    record::intact(manifest::check(&dir))
}

/// Makes a folder in the cache to put the files of an image into, below a folder named by its key.
///
/// # Errors
/// [`Kind::Internal`] when it cannot be made.
pub(crate) fn staging(cache: &Path) -> Result<tempfile::TempDir> {
    fsutil::staging_dir(&Store::open(cache)?.cache.root)
}

/// Moves an image from a [`staging`] folder into the cache, unless the same is there. Another
/// image that was made from the same inputs is removed: builds take the one that is found.
///
/// # Errors
/// [`Kind::Assets`] when the files are not what their manifest and the key say, or the disk is
/// not one that stands alone.
pub(crate) fn import(cache: &Path, key: &str, staged: tempfile::TempDir) -> Result<NodeImage> {
    check_key(key)?;
    let store = Store::open(cache)?;
    let inputs = key.rsplit_once('-').map_or(key, |(inputs, _)| inputs);
    let _lock = store.cache.lock(inputs, |_| {})?;
    if let Some(there) = load(cache, key)? {
        return Ok(there);
    }
    let from = staged.path().join(key);
    let image = manifest::check(&from).map_err(|why| match why.kind() {
        Kind::Assets => Error::assets(format!("the node image {key} is damaged: {why}")),
        _ => why,
    })?;
    qcow2::virtual_size(&image.disk)?;
    store.replace(&from, inputs, key)
}

/// Refuses what is not the key of a node image: it becomes a folder's name.
///
/// # Errors
/// [`Kind::Assets`] for such a text.
pub(crate) fn check_key(key: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if !key.is_empty() && key.bytes().all(plain) {
        return Ok(());
    }
    Err(Error::assets(format!(
        "`{key}` is not the key of a node image"
    )))
}

#[cfg(test)]
mod tests {
    use super::super::manifest::tests::fake;
    use std::fs;

    use super::*;
    use crate::progress::Silent;

    fn made(cache: &Path, mark: &str) -> NodeImage {
        let store = Store::open(cache).unwrap();
        store
            .provide("i", false, &Silent, |dir| {
                fake(dir, mark);
                Ok(())
            })
            .unwrap()
    }

    /// Returns a staging folder with a copy of an image.
    fn staged(cache: &Path, image: &NodeImage) -> tempfile::TempDir {
        let staged = staging(cache).unwrap();
        let to = staged.path().join(&image.key);
        fsutil::copy_private(image.disk.parent().unwrap(), &to).unwrap();
        staged
    }

    #[test]
    fn an_image_moves_from_one_cache_to_another() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let original = made(there.path(), "theirs");
        let own = made(here.path(), "own");
        let staged = staged(here.path(), &original);
        let image = import(here.path(), &original.key, staged).unwrap();
        assert_eq!(image.key, original.key);
        // The next build finds this one, and the other one is gone.
        let found = Store::open(here.path()).unwrap().find("i", &Silent);
        assert_eq!(found.unwrap(), Some(image));
        assert!(!own.disk.exists());
        assert_eq!(load(here.path(), &own.key).unwrap(), None);
    }

    #[test]
    fn a_changed_image_and_a_strange_key_are_refused() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let original = made(there.path(), "theirs");
        let staged = staged(here.path(), &original);
        let kernel = staged.path().join(&original.key).join(manifest::KERNEL);
        fs::write(&kernel, "other").unwrap();
        assert!(import(here.path(), &original.key, staged).is_err());
        assert_eq!(load(here.path(), &original.key).unwrap(), None);
        for key in ["", "../x", "a/b"] {
            assert!(load(here.path(), key).is_err(), "{key}");
        }
    }
}
