//! `manifest.json` of a finished set: its key, its inputs, and what its files must be.

use std::fmt::Display;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::catalog::BUILDCTL;
use super::inputs::Inputs;
use super::set::ComponentSet;
use super::stage::Images;
use crate::assets::record::FileRecord;
use crate::assets::version::KubernetesVersion;
use crate::error::{Error, Kind, Result};
use crate::fsutil;

/// The format of [`Manifest`]; a set of another format is left to the kubby that made it.
const FORMAT: u32 = 2;

const MANIFEST: &str = "manifest.json";
/// The file of the volume in a finished set.
pub(super) const VOLUME: &str = "components.erofs";
const KUBECTL: &str = "bin/kubectl";
/// The files of a finished set beside its manifest.
pub(super) const FILES: [&str; 3] = [VOLUME, KUBECTL, "bin/buildctl"];

/// The manifest of a finished set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    pub key: String,
    pub inputs: Inputs,
    images: Images,
    pub volume: FileRecord,
    kubectl: FileRecord,
    buildctl: FileRecord,
}

impl Manifest {
    /// Describes the set whose files are in `dir`.
    ///
    /// # Errors
    /// [`Kind::Assets`] when a file is missing; [`Kind::Interrupted`] on Ctrl-C.
    pub(super) fn of(dir: &Path, inputs: &Inputs, images: Images) -> Result<Self> {
        let [volume, kubectl, buildctl] = FILES.map(|name| FileRecord::of(&dir.join(name)));
        Ok(Manifest {
            format: FORMAT,
            key: inputs.key(),
            inputs: inputs.clone(),
            images,
            volume: volume?,
            kubectl: kubectl?,
            buildctl: buildctl?,
        })
    }

    /// Reads the manifest of the set in `dir`; `None` if it has another format.
    ///
    /// # Errors
    /// [`Kind::Assets`] when it is missing or damaged.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>> {
        let bad = |why: &dyn Display| Error::assets(format!("{MANIFEST}: {why}"));
        let text = fs::read_to_string(dir.join(MANIFEST)).map_err(|e| bad(&e))?;
        let value: serde_json::Value = serde_json::from_str(&text).map_err(|e| bad(&e))?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format != u64::from(FORMAT) => Ok(None),
            _ => serde_json::from_value(value).map(Some).map_err(|e| bad(&e)),
        }
    }

    /// Compares the files in `dir` with the manifest, and returns it with their times as they are
    /// now.
    ///
    /// # Errors
    /// [`Kind::Assets`] when one differs; [`Kind::Interrupted`] on Ctrl-C.
    pub(super) fn check(&self, dir: &Path) -> Result<Self> {
        let mut found = self.clone();
        let records = [&mut found.volume, &mut found.kubectl, &mut found.buildctl];
        for (name, record) in FILES.into_iter().zip(records) {
            record.check(dir, name)?;
        }
        Ok(found)
    }

    /// Reads and compares the set in `dir`, and changes nothing there.
    ///
    /// # Errors
    /// [`Kind::Assets`] when it is damaged or of another format; [`Kind::Interrupted`] on Ctrl-C.
    pub(super) fn verified(dir: &Path) -> Result<Self> {
        let manifest = Self::read(dir).and_then(|manifest| match manifest {
            Some(manifest) => manifest.check(dir),
            None => Err(Error::assets(format!(
                "{MANIFEST} is of a format that this kubby does not know"
            ))),
        });
        let place = dir.display();
        manifest.map_err(|e| match e.kind() {
            Kind::Assets => Error::assets(format!("the components in {place} are damaged: {e}")),
            _ => e,
        })
    }

    /// Writes it into `dir`.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the file system refuses.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let text = format!("{:#}\n", serde_json::json!(self));
        fsutil::write_atomic(&dir.join(MANIFEST), text.as_bytes(), 0o644)
    }

    /// Returns the set in `dir`.
    pub(super) fn set(self, version: KubernetesVersion, dir: &Path) -> ComponentSet {
        ComponentSet {
            version,
            key: self.key,
            volume: dir.join(VOLUME),
            kubectl: dir.join(KUBECTL),
            buildctl: dir.join("bin").join(BUILDCTL),
            images: self.images,
            etcd_version: self.inputs.etcd,
            coredns_version: self.inputs.coredns,
            origin: self.inputs.source,
        }
    }
}
