//! The cache of sets, in the folder `components`.

use std::fs;
use std::path::{Path, PathBuf};

use super::catalog::HOST_PROGRAMS;
use super::inputs::Inputs;
use super::manifest::{FILES, Manifest, VOLUME};
use super::set::ComponentSet;
use super::stage::{Images, Stage};
use super::{state, volume};
use crate::assets::cache;
use crate::assets::version::KubernetesVersion;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil::{self, Lock};
use crate::progress::Progress;
use crate::units::human_bytes;

/// The result of [`Cache::look_up`].
#[derive(Debug, Default)]
pub(super) struct Found {
    pub set: Option<ComponentSet>,
    /// Damaged entries with the reason.
    pub corrupt: Vec<(PathBuf, Error)>,
}

/// The folder `components` of kubby's cache.
#[derive(Debug)]
pub(super) struct Cache(cache::Cache);

/// Returns the part of a key that names a folder.
///
/// # Errors
/// [`Kind::Assets`] for a text that is not a key.
pub(super) fn short_key(key: &str) -> Result<&str> {
    match key.get(..12) {
        Some(short) if key.bytes().all(|b| b.is_ascii_hexdigit()) => Ok(short),
        _ => Err(Error::assets(format!("`{key}` is not a key of components"))),
    }
}

impl Cache {
    pub(super) fn open(cache: &Path) -> Result<Self> {
        cache::Cache::open(cache, "components").map(Cache)
    }

    /// Takes the lock that a process holds while it makes or removes a set of this version.
    pub(super) fn lock(
        &self,
        version: KubernetesVersion,
        waiting: impl FnOnce(&Path),
    ) -> Result<Lock> {
        self.0.lock(&version.to_string(), waiting)
    }

    /// Returns the path of the set with a key, whether it is there or not.
    ///
    /// # Errors
    /// [`Kind::Assets`] for a text that is not a key: it becomes a folder's name.
    pub(super) fn entry(&self, version: KubernetesVersion, key: &str) -> Result<PathBuf> {
        let short = short_key(key)?;
        Ok(self.0.root().join(format!("{version}-{short}")))
    }

    /// Makes a folder for the files of a set from elsewhere.
    pub(super) fn staging(&self) -> Result<tempfile::TempDir> {
        self.0.staging()
    }

    /// Returns the folder for the logs of builds.
    pub(super) fn logs(&self) -> Result<PathBuf> {
        let dir = self.0.root().join("logs");
        fsutil::create_private_dir(&dir)?;
        Ok(dir)
    }

    /// Removes what killed processes have left. Only for the holder of the lock.
    pub(super) fn clean(&self, version: KubernetesVersion) -> Result<()> {
        self.0.clean(&unfinished(version))
    }

    /// Searches for a set made from one of `wanted`, the first of them preferred.
    pub(super) fn look_up(&self, version: KubernetesVersion, wanted: &[Inputs]) -> Result<Found> {
        let mut found = Found::default();
        let mut best = wanted.len();
        for path in self.0.entries(&format!("{version}-"))? {
            let manifest = match Manifest::read(&path) {
                Ok(Some(manifest)) => manifest,
                Ok(None) => continue,
                Err(why) => {
                    found.corrupt.push((path, why));
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
                        found.set = Some(now.set(version, &path));
                    }
                }
                Err(why) if why.kind() == Kind::Interrupted => return Err(why),
                Err(why) => found.corrupt.push((path, why)),
            }
        }
        Ok(found)
    }

    /// Makes a set: `fill` puts the programs and images into the stage and names the images. The
    /// set appears under its final name only when it is complete. Only for the holder of the lock.
    pub(super) fn make(
        &self,
        version: KubernetesVersion,
        inputs: &Inputs,
        progress: &dyn Progress,
        fill: impl FnOnce(&Stage) -> Result<Images>,
    ) -> Result<ComponentSet> {
        let process = format!("-{}", std::process::id());
        let work = self.0.work(&unfinished(version), &process)?;
        let (dir, root) = (work.path(), work.path().join("stage"));
        let stage = Stage {
            bin: root.join("bin"),
            images: root.join("images"),
            work: dir.join("work"),
        };
        for folder in [&stage.bin, &stage.images, &stage.work, &dir.join("bin")] {
            fsutil::create_private_dir(folder)?;
        }
        let images = fill(&stage)?;
        state::make(&stage, progress)?;
        let key = inputs.key();
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
        let set = self.publish(version, &work.keep(), manifest)?;
        step.done(human_bytes(size));
        Ok(set)
    }

    /// Makes the files in `from` the set of their key.
    pub(super) fn publish(
        &self,
        version: KubernetesVersion,
        from: &Path,
        manifest: Manifest,
    ) -> Result<ComponentSet> {
        let name = format!("{version}-{}", short_key(&manifest.key)?);
        let entry = self.0.publish(from, &name)?;
        Ok(manifest.set(version, &entry))
    }
}

fn unfinished(version: KubernetesVersion) -> String {
    format!(".making-{version}-")
}
