//! Components that come from another host's cache, as they were there.

use std::path::{Path, PathBuf};

use super::ComponentSet;
use super::cache::{self, Cache};
use crate::assets::version::KubernetesVersion;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil::{self, Lock};

/// Refuses what is no key of components: it becomes a part of files' names.
///
/// # Errors
/// [`Kind::Assets`] for such a text.
pub fn check_key(key: &str) -> Result<()> {
    cache::short_key(key).map(drop)
}

/// The folder of the intact set with this key in the cache, if it is there.
///
/// # Errors
/// [`Kind::Internal`] when the cache cannot be used.
pub fn cached(cache: &Path, version: KubernetesVersion, key: &str) -> Result<Option<PathBuf>> {
    let set = load(cache, version, key)?;
    Ok(set.and_then(|set| Some(set.volume.parent()?.to_owned())))
}

/// The intact set with this key, if it is in the cache.
///
/// # Errors
/// As [`cached`].
pub fn load(cache: &Path, version: KubernetesVersion, key: &str) -> Result<Option<ComponentSet>> {
    let entry = Cache::open(cache)?.entry(version, key)?;
    if !entry.is_dir() {
        return Ok(None);
    }
    let verified = cache::verified(&entry).ok();
    let found = verified.filter(|manifest| manifest.key == key);
    Ok(found.map(|manifest| cache::set(version, &entry, manifest)))
}

/// A folder in the cache to put the files of a set into.
///
/// # Errors
/// [`Kind::Internal`] when it cannot be made.
pub fn staging(cache: &Path) -> Result<tempfile::TempDir> {
    fsutil::staging_dir(Cache::open(cache)?.root())
}

/// Moves a set from a [`staging`] folder into the cache, in place of one with the same key, which
/// names what a set was made from, not what came out.
///
/// # Errors
/// [`Kind::Assets`] when the files are not what their manifest and the key say.
pub fn adopt(
    cache: &Path,
    version: KubernetesVersion,
    key: &str,
    staged: tempfile::TempDir,
) -> Result<ComponentSet> {
    let store = Cache::open(cache)?;
    let entry = store.entry(version, key)?;
    let _lock = Lock::acquire(&store.lock_file(version), || {})?;
    let manifest = cache::verified(staged.path())?;
    if manifest.key != key {
        return Err(Error::new(
            Kind::Assets,
            format!("the components are not those with the key {key}"),
        ));
    }
    fsutil::remove_all(&entry)?;
    fsutil::rename(&staged.keep(), &entry).context(Kind::Internal, || {
        format!("cannot move the components to {}", entry.display())
    })?;
    Ok(cache::set(version, &entry, manifest))
}
