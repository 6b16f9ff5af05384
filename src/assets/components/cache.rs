//! The cache of sets: found whole or not at all, damaged ones noticed, made beside and renamed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::inputs::Inputs;
use super::manifest::{Check, FORMAT, FileRecord, Images, Manifest};
use super::{ComponentSet, HOST_PROGRAMS, state, volume};
use crate::assets::version::KubernetesVersion;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil;
use crate::progress::Progress;
use crate::units::human_bytes;

/// Where a set is put together: what is in `bin` and `images`, and beside them, goes into the volume.
pub(super) struct Stage {
    pub bin: PathBuf,
    pub images: PathBuf,
    /// For what is needed on the way only.
    pub work: PathBuf,
}

impl Stage {
    /// The archive of an image.
    pub(super) fn image(&self, name: &str) -> PathBuf {
        self.images.join(format!("{name}.tar"))
    }
}

/// What [`Cache::look_up`] found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub set: Option<ComponentSet>,
    /// Damaged entries with the reason.
    pub corrupt: Vec<(PathBuf, String)>,
}

/// The folder `components` of kubby's cache.
#[derive(Debug)]
pub(super) struct Cache {
    root: PathBuf,
}

/// The part of a key that names a folder.
///
/// # Errors
/// [`Kind::Assets`] for what is no key.
pub(super) fn short_key(key: &str) -> Result<&str> {
    match key.get(..12) {
        Some(short) if key.bytes().all(|b| b.is_ascii_hexdigit()) => Ok(short),
        _ => Err(Error::new(
            Kind::Assets,
            format!("`{key}` is no key of components"),
        )),
    }
}

impl Cache {
    pub(super) fn open(cache: &Path) -> Result<Self> {
        let root = cache.join("components");
        fsutil::create_private_dir(&root)?;
        Ok(Cache { root })
    }

    /// The lock that whoever makes or removes a set of this version holds.
    pub(super) fn lock_file(&self, version: KubernetesVersion) -> PathBuf {
        self.root.join(format!("{version}.lock"))
    }

    /// The folder, for whoever puts a set together beside the others.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the set with a key is or will be.
    ///
    /// # Errors
    /// [`Kind::Assets`] for what is no key: it becomes a folder's name.
    pub(super) fn entry(&self, version: KubernetesVersion, key: &str) -> Result<PathBuf> {
        let short = short_key(key)?;
        Ok(self.root.join(format!("{version}-{short}")))
    }

    /// The folder for the logs of builds.
    pub(super) fn logs(&self) -> Result<PathBuf> {
        let dir = self.root.join("logs");
        fsutil::create_private_dir(&dir)?;
        Ok(dir)
    }

    /// Removes what killed runs left behind. Only for the holder of the lock.
    pub(super) fn clean(&self, version: KubernetesVersion) -> Result<()> {
        for (name, path) in self.entries() {
            if name.starts_with(&temporary(version)) {
                fsutil::remove_all(&path)?;
            }
        }
        Ok(())
    }

    /// Searches for a set made from one of `wanted`, the first of them preferred.
    pub(super) fn look_up(&self, version: KubernetesVersion, wanted: &[Inputs]) -> Found {
        let mut found = Found::default();
        let mut best = wanted.len();
        for (name, path) in self.entries() {
            if !name.starts_with(&format!("{version}-")) || !path.is_dir() {
                continue;
            }
            let manifest = match read_manifest(&path) {
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
            match check_files(&path, &manifest) {
                Ok(()) if rank < best => {
                    best = rank;
                    found.set = Some(set(version, &path, manifest));
                }
                Ok(()) => {}
                Err(why) => found.corrupt.push((path, why)),
            }
        }
        found
    }

    /// Everything in the folder, sorted. An unreadable folder shows when it is written to.
    fn entries(&self) -> Vec<(String, PathBuf)> {
        let mut out: Vec<(String, PathBuf)> = fs::read_dir(&self.root)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| (e.file_name().to_string_lossy().into_owned(), e.path()))
            .collect();
        out.sort();
        out
    }

    /// Makes a set: `fill` puts the programs and images into the stage and names the images. The
    /// set appears under its final name only when it is complete. Only for the lock's holder.
    pub(super) fn publish(
        &self,
        version: KubernetesVersion,
        inputs: &Inputs,
        progress: &dyn Progress,
        fill: impl FnOnce(&Stage) -> Result<Images>,
    ) -> Result<ComponentSet> {
        let temporary = self
            .root
            .join(format!("{}{}", temporary(version), std::process::id()));
        let made = self.make_in(&temporary, version, inputs, progress, fill);
        if made.is_err() {
            // The error that led here is the one to report; a rest is cleaned by the next run.
            let _ = fsutil::remove_all(&temporary);
        }
        made
    }

    fn make_in(
        &self,
        temporary: &Path,
        version: KubernetesVersion,
        inputs: &Inputs,
        progress: &dyn Progress,
        fill: impl FnOnce(&Stage) -> Result<Images>,
    ) -> Result<ComponentSet> {
        let root = temporary.join("stage");
        let stage = Stage {
            bin: root.join("bin"),
            images: root.join("images"),
            work: temporary.join("work"),
        };
        for dir in [
            &stage.bin,
            &stage.images,
            &stage.work,
            &temporary.join("bin"),
        ] {
            fsutil::create_private_dir(dir)?;
        }
        let images = fill(&stage)?;
        state::make(&stage, progress)?;
        let key = inputs.key();
        let about = serde_json::json!({ "key": key, "inputs": inputs, "images": images });
        fsutil::write_atomic(
            &root.join("manifest.json"),
            format!("{about:#}\n").as_bytes(),
            0o644,
        )?;

        let step = progress.step("Pack the component volume");
        let volume = temporary.join("components.erofs");
        volume::pack(&root, &volume, &key, step.sink())?;
        let [kubectl, buildctl] =
            HOST_PROGRAMS.map(|name| (stage.bin.join(name), temporary.join("bin").join(name)));
        let fail = || format!("cannot write {}", temporary.display());
        for (from, to) in [&kubectl, &buildctl] {
            // Follows a link to a binary that is kubectl by its name only.
            fs::copy(from, to).context(Kind::Assets, fail)?;
        }
        for dir in [&root, &stage.work] {
            fsutil::remove_all(dir)?;
        }
        // After a power loss a file can have its size and time, but not its content.
        for file in [&volume, &kubectl.1, &buildctl.1] {
            File::open(file)
                .and_then(|f| f.sync_all())
                .context(Kind::Assets, fail)?;
        }
        let manifest = Manifest {
            format: FORMAT,
            key: key.clone(),
            inputs: inputs.clone(),
            images,
            volume: FileRecord::of(&volume)?,
            kubectl: FileRecord::of(&kubectl.1)?,
            buildctl: FileRecord::of(&buildctl.1)?,
        };
        write_manifest(temporary, &manifest)?;
        let entry = self.entry(version, &key)?;
        fsutil::remove_all(&entry)?;
        fsutil::rename(temporary, &entry)
            .context(Kind::Assets, || format!("cannot write {}", entry.display()))?;
        step.done(human_bytes(manifest.volume.size));
        Ok(set(version, &entry, manifest))
    }
}

fn temporary(version: KubernetesVersion) -> String {
    format!(".making-{version}-")
}

fn write_manifest(entry: &Path, manifest: &Manifest) -> Result<()> {
    let text = format!("{:#}\n", serde_json::json!(manifest));
    fsutil::write_atomic(&entry.join("manifest.json"), text.as_bytes(), 0o644)
}

/// The manifest of an entry; `None` where it is of another format, a reason where it is damaged.
pub(super) fn read_manifest(entry: &Path) -> Result<Option<Manifest>, String> {
    let text = fs::read_to_string(entry.join("manifest.json"))
        .map_err(|e| format!("manifest.json: {e}"))?;
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| format!("manifest.json: {e}"))?;
    match value.get("format").and_then(serde_json::Value::as_u64) {
        Some(format) if format != u64::from(FORMAT) => Ok(None),
        _ => serde_json::from_value(value)
            .map(Some)
            .map_err(|e| format!("manifest.json: {e}")),
    }
}

/// Compares the files of an entry with its manifest, and renews the times in it where needed.
fn check_files(entry: &Path, manifest: &Manifest) -> Result<(), String> {
    let mut renewed = manifest.clone();
    for (path, record) in [
        ("components.erofs", &mut renewed.volume),
        ("bin/kubectl", &mut renewed.kubectl),
        ("bin/buildctl", &mut renewed.buildctl),
    ] {
        match record.check(&entry.join(path)) {
            Check::Good => {}
            Check::Touched(now) => *record = now,
            Check::Bad(why) => return Err(why),
        }
    }
    if renewed != *manifest {
        // On a read-only cache the files are hashed again next time, which is slow but right.
        let _ = write_manifest(entry, &renewed);
    }
    Ok(())
}

/// The set in a folder with the layout of a cache entry.
pub(super) fn set(version: KubernetesVersion, entry: &Path, manifest: Manifest) -> ComponentSet {
    ComponentSet {
        version,
        key: manifest.key,
        volume: entry.join("components.erofs"),
        kubectl: entry.join("bin/kubectl"),
        buildctl: entry.join("bin").join(super::BUILDCTL),
        images: manifest.images,
        etcd_version: manifest.inputs.etcd,
        coredns_version: manifest.inputs.coredns,
        origin: manifest.inputs.source,
    }
}

/// [`read_manifest`] and [`check_files`] for a folder that is not the cache's own.
pub(super) fn verified(entry: &Path) -> Result<Manifest> {
    let bad = |why: String| {
        Error::new(
            Kind::Assets,
            format!("the components in {} are damaged: {why}", entry.display()),
        )
    };
    let manifest = read_manifest(entry)
        .map_err(bad)?
        .ok_or_else(|| bad("manifest.json is of a format that this kubby does not know".into()))?;
    for (path, record) in [
        ("components.erofs", &manifest.volume),
        ("bin/kubectl", &manifest.kubectl),
        ("bin/buildctl", &manifest.buildctl),
    ] {
        if let Check::Bad(why) = record.check(&entry.join(path)) {
            return Err(bad(why));
        }
    }
    Ok(manifest)
}
