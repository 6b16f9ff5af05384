//! Components that come from another host's cache, in a template.

use std::path::Path;

use super::cache::{self, Cache};
use super::manifest::Manifest;
use super::set::ComponentSet;
use crate::assets::record;
use crate::assets::version::KubernetesVersion;
use crate::error::{Error, Result};

/// Refuses a text that is not a key of components: it becomes a part of files' names.
///
/// # Errors
/// [`Kind::Assets`](crate::error::Kind::Assets) for such a text.
pub(crate) fn check_key(key: &str) -> Result<()> {
    cache::short_key(key).map(drop)
}

/// Returns the intact set with this key, if it is in the cache.
///
/// # Errors
/// [`Kind::Internal`](crate::error::Kind::Internal) when the cache cannot be used; [`Kind::Interrupted`](crate::error::Kind::Interrupted) on Ctrl-C.
pub(crate) fn load(
    cache: &Path,
    version: KubernetesVersion,
    key: &str,
) -> Result<Option<ComponentSet>> {
    let entry = Cache::open(cache)?.entry(version, key)?;
    if !entry.is_dir() {
        return Ok(None);
    }
    let found = record::intact(Manifest::verified(&entry))?;
    let found = found.filter(|manifest| manifest.key == key);
    Ok(found.map(|manifest| manifest.set(version, &entry)))
}

/// Makes a folder in the cache to put the files of a set into.
///
/// # Errors
/// [`Kind::Internal`](crate::error::Kind::Internal) when it cannot be made.
pub(crate) fn staging(cache: &Path) -> Result<tempfile::TempDir> {
    Cache::open(cache)?.staging()
}

/// Moves a set from a [`staging`] folder into the cache, in place of one with the same key: a key
/// names what a set was made from, not what came out.
///
/// # Errors
/// [`Kind::Assets`](crate::error::Kind::Assets) when the files are not what their manifest and the key say.
pub(crate) fn import(
    cache: &Path,
    version: KubernetesVersion,
    key: &str,
    staged: tempfile::TempDir,
) -> Result<ComponentSet> {
    let cache = Cache::open(cache)?;
    let _lock = cache.lock(version, |_| {})?;
    let manifest = Manifest::verified(staged.path())?;
    if manifest.key != key {
        return Err(Error::assets(format!(
            "the components are not those with the key {key}"
        )));
    }
    cache.publish(version, &staged.keep(), manifest)
}
