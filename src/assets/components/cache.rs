//! The cache of sets, in the folder `components`: made here, or on another host and then imported.

use std::fs;
use std::path::{Path, PathBuf};

use super::catalog::HOST_PROGRAMS;
use super::inputs::Inputs;
use super::manifest::{FILES, Manifest, VOLUME};
use super::set::ComponentSet;
use super::stage::{Images, Stage};
use super::{state, volume};
use crate::assets::cache::{self, Cache};
use crate::assets::record;
use crate::assets::version::{DEFAULT, KubernetesVersion};
use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil;
use crate::progress::Progress;
use crate::units::human_bytes;

/// A damaged entry of the cache, with the reason.
pub(super) type Damaged = (PathBuf, Error);

/// Opens the folder `components` of kubby's cache.
pub(super) fn open(cache: &Path) -> Result<Cache> {
    Cache::open(cache, "components")
}

/// Returns the name of the folder of the set with a key.
fn name(version: KubernetesVersion, key: &str) -> Result<String> {
    match key.get(..12) {
        Some(short) if key.bytes().all(|b| b.is_ascii_hexdigit()) => {
            Ok(format!("{version}-{short}"))
        }
        _ => Err(Error::assets(format!("`{key}` is not a key of components"))),
    }
}

/// Refuses a text that is not a key of components: it becomes a part of files' names.
///
/// # Errors
/// [`Kind::Assets`] for such a text.
pub(crate) fn check_key(key: &str) -> Result<()> {
    name(DEFAULT, key).map(drop)
}

/// Returns the intact set with this key, if it is in the cache.
///
/// # Errors
/// [`Kind::Internal`] when the cache cannot be used; [`Kind::Interrupted`] on Ctrl-C.
pub(crate) fn load(
    cache: &Path,
    version: KubernetesVersion,
    key: &str,
) -> Result<Option<ComponentSet>> {
    let entry = open(cache)?.root.join(name(version, key)?);
    if !entry.is_dir() {
        return Ok(None);
    }
    let found = record::intact(Manifest::verified(&entry))?;
    let found = found.filter(|manifest| manifest.key == key);
    Ok(found.map(|manifest| manifest.set(version, &entry)))
}

/// Makes a folder in the cache to put the files of a set from another host's cache into.
///
/// # Errors
/// [`Kind::Internal`] when it cannot be made.
pub(crate) fn staging(cache: &Path) -> Result<tempfile::TempDir> {
    fsutil::staging_dir(&open(cache)?.root)
}

/// Moves a set from a [`staging`] folder into the cache, in place of one with the same key: a key
/// names what a set was made from, not what came out.
///
/// # Errors
/// [`Kind::Assets`] when the files are not what their manifest and the key say.
pub(crate) fn import(
    cache: &Path,
    version: KubernetesVersion,
    key: &str,
    staged: tempfile::TempDir,
) -> Result<ComponentSet> {
    let cache = open(cache)?;
    let _lock = cache.lock(&version.to_string(), |_| {})?;
    let manifest = Manifest::verified(staged.path())?;
    if manifest.key != key {
        return Err(Error::assets(format!(
            "the components are not those with the key {key}"
        )));
    }
    publish(&cache, version, &staged.keep(), manifest)
}

/// Searches for a set made from one of `wanted`, the first of them preferred. Returns the damaged
/// entries as well, with the reasons.
pub(super) fn look_up(
    cache: &Cache,
    version: KubernetesVersion,
    wanted: &[Inputs],
) -> Result<(Option<ComponentSet>, Vec<Damaged>)> {
    let (mut set, mut corrupt) = (None, Vec::new());
    let mut best = wanted.len();
    for path in cache.entries(&format!("{version}-"))? {
        let manifest = match Manifest::read(&path) {
            Ok(Some(manifest)) => manifest,
            Ok(None) => continue,
            Err(why) => {
                corrupt.push((path, why));
                continue;
            }
        };
        let Some(rank) = wanted.iter().position(|w| w.accept(&manifest.inputs)) else {
            continue;
        };
        match manifest.check(&path) {
            Ok(now) => {
                if now != manifest {
                    // On a read-only cache the files are read again next time.
                    let _ = now.write(&path);
                }
                if rank < best {
                    best = rank;
                    set = Some(now.set(version, &path));
                }
            }
            Err(why) if why.kind() == Kind::Interrupted => return Err(why),
            Err(why) => corrupt.push((path, why)),
        }
    }
    Ok((set, corrupt))
}

/// Makes a set: `fill` puts the programs and images into the stage and names the images. The
/// set appears under its final name only when it is complete. Only for the holder of the lock.
pub(super) fn make(
    cache: &Cache,
    version: KubernetesVersion,
    inputs: &Inputs,
    progress: &dyn Progress,
    fill: impl FnOnce(&mut Stage) -> Result<()>,
) -> Result<ComponentSet> {
    let process = format!("-{}", std::process::id());
    let work = cache.work(&unfinished(version), &process)?;
    let (dir, root) = (work.path(), work.path().join("stage"));
    let mut stage = Stage {
        bin: root.join("bin"),
        images: root.join("images"),
        work: dir.join("work"),
        references: Images::new(),
    };
    for folder in [&stage.bin, &stage.images, &stage.work, &dir.join("bin")] {
        fsutil::create_private_dir(folder)?;
    }
    fill(&mut stage)?;
    state::make(&stage, progress)?;
    let (key, images) = (inputs.key(), stage.references);
    let about = serde_json::json!({ "key": key, "inputs": inputs, "images": images });
    let about = format!("{about:#}\n");
    fsutil::write_atomic(&root.join("manifest.json"), about.as_bytes(), 0o644)?;

    let step = progress.step("Pack the component volume");
    volume::pack(&root, &dir.join(VOLUME), &key, step.sink())?;
    for name in HOST_PROGRAMS {
        // Follows a link to a binary that is kubectl by its name only.
        fs::copy(stage.bin.join(name), dir.join("bin").join(name))
            .context(Kind::Assets, || format!("cannot write {}", dir.display()))?;
    }
    for folder in [&root, &stage.work] {
        fsutil::remove_all(folder)?;
    }
    cache::sync(dir, &FILES)?;
    let manifest = Manifest::of(dir, inputs, images)?;
    manifest.write(dir)?;
    let size = manifest.volume.size;
    let set = publish(cache, version, &work.keep(), manifest)?;
    step.done(human_bytes(size));
    Ok(set)
}

/// Makes the files in `from` the set of their key.
fn publish(
    cache: &Cache,
    version: KubernetesVersion,
    from: &Path,
    manifest: Manifest,
) -> Result<ComponentSet> {
    let entry = cache.publish(from, &name(version, &manifest.key)?)?;
    Ok(manifest.set(version, &entry))
}

/// Returns the beginning of the names of the folders in which sets of this version are made.
pub(super) fn unfinished(version: KubernetesVersion) -> String {
    format!(".making-{version}-")
}
