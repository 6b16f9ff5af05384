//! All that a set is made from, and the key that stands for it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::catalog::{self, COREDNS_VERSION, ETCD_VERSION, PAUSE_VERSION};
use super::{extras, volume};
use crate::assets::version::KubernetesVersion;
use crate::assets::{download, recipes};
use crate::error::{Kind, Result, ResultExt};
use crate::units::hex;

/// Counts changes of how this code lays out a volume, so that older sets are made again.
const LAYOUT: u32 = 8;

/// Everything that decides what is in a set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Inputs {
    pub layout: u32,
    /// `download`, `build` or `directory`.
    pub source: String,
    pub kubernetes: String,
    pub etcd: String,
    pub coredns: String,
    pub pause: String,
    pub arch: String,
    /// The options of mkfs.erofs.
    pub mkfs: String,
    /// The base URL of downloads where it is not the official ones.
    pub mirror: Option<String>,
    /// The digest of the recipe for what is built.
    pub recipe: Option<String>,
    /// The version of Go that builds.
    pub go: Option<String>,
    /// A fingerprint of the files of a user's folder.
    pub directory: Option<String>,
}

impl Inputs {
    /// Returns the inputs of a set of downloads. The rest comes from the folder `extras` or is
    /// built, by any Go if `go` is `None`.
    pub(super) fn download(
        version: KubernetesVersion,
        mirror: Option<&str>,
        extras: Option<&Path>,
        go: Option<String>,
    ) -> Result<Self> {
        // Inputs are written to manifests, so the password of a URL is left out.
        let mirror = mirror.map(|m| download::printable(m).trim_end_matches('/').to_owned());
        Ok(Inputs {
            mirror,
            recipe: extras.is_none().then(extras::digest),
            go,
            directory: extras.map(fingerprint).transpose()?,
            ..Self::common("download", version)?
        })
    }

    /// Returns the inputs of a build; `go` is `None` where sets built by any Go will do.
    pub(super) fn build(version: KubernetesVersion, go: Option<String>) -> Result<Self> {
        let recipe = Some(recipes::digest("components"));
        Ok(Inputs {
            recipe,
            go,
            ..Self::common("build", version)?
        })
    }

    /// Returns what all sources have in common, without a recipe.
    pub(super) fn common(source: &str, version: KubernetesVersion) -> Result<Self> {
        Ok(Inputs {
            layout: LAYOUT,
            source: source.to_owned(),
            kubernetes: version.to_string(),
            etcd: ETCD_VERSION.to_owned(),
            coredns: COREDNS_VERSION.to_owned(),
            pause: PAUSE_VERSION.to_owned(),
            arch: catalog::arch()?.to_owned(),
            mkfs: volume::OPTIONS.join(" "),
            ..Inputs::default()
        })
    }

    /// Returns 64 hex digits that change with every input.
    pub(super) fn key(&self) -> String {
        // The field order is fixed and strings are escaped, so different inputs never look alike.
        let text = serde_json::json!(self).to_string();
        hex(&Sha256::digest(text))
    }

    /// Returns whether a set made from `made` is what these inputs ask for.
    pub(super) fn accept(&self, made: &Inputs) -> bool {
        let go = made.go.clone().filter(|_| self.go.is_some());
        *self == Inputs { go, ..made.clone() }
    }
}

/// Digests names, sizes and times of all files, which is quick; reading them would take a second at
/// every start.
pub(super) fn fingerprint(dir: &Path) -> Result<String> {
    let fail = || format!("cannot read {}", dir.display());
    let mut lines = BTreeSet::from([dir.to_string_lossy().into_owned()]);
    for folder in ["bin", "cni", "images"] {
        let Ok(entries) = fs::read_dir(dir.join(folder)) else {
            continue;
        };
        for entry in entries {
            let path = entry.context(Kind::Assets, fail)?.path();
            let meta = fs::metadata(&path).context(Kind::Assets, fail)?;
            let target = fs::read_link(&path).unwrap_or_default();
            lines.insert(format!(
                "{path:?} {target:?} {} {}.{:09} {}",
                meta.len(),
                meta.mtime(),
                meta.mtime_nsec(),
                meta.ino()
            ));
        }
    }
    let text: Vec<String> = lines.into_iter().collect();
    Ok(hex(&Sha256::digest(text.join("\n"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::version::DEFAULT;

    fn download(mirror: Option<&str>) -> Result<Inputs> {
        Inputs::download(DEFAULT, mirror, None, None)
    }

    #[test]
    fn the_key_changes_with_every_input() {
        let base = Inputs::build(DEFAULT, Some("go1.26.0".into())).unwrap();
        // Fields are changed by name, so that one added later is covered without a word here.
        let serde_json::Value::Object(fields) = serde_json::json!(base) else {
            panic!()
        };
        for name in fields.keys() {
            let mut changed = fields.clone();
            let other = if name == "layout" {
                99.into()
            } else {
                "another".into()
            };
            changed.insert(name.clone(), other);
            let changed: Inputs = serde_json::from_value(changed.into()).unwrap();
            assert_ne!(changed.key(), base.key(), "{name}");
            assert!(!base.accept(&changed), "{name}");
        }
        assert_eq!(base.key(), base.clone().key());
        assert_eq!(base.key().len(), 64);
    }

    #[test]
    fn any_go_will_do_where_none_is_asked_for() {
        let any = Inputs::build(DEFAULT, None).unwrap();
        let made = Inputs::build(DEFAULT, Some("go1.26.0".into())).unwrap();
        assert!(any.accept(&made));
        assert!(
            !Inputs::build(DEFAULT, Some("go1.27.0".into()))
                .unwrap()
                .accept(&made)
        );
        assert!(!any.accept(&download(None).unwrap()));
    }

    #[test]
    fn a_mirror_is_another_source_whatever_its_slashes() {
        let plain = download(None).unwrap();
        let mirror = download(Some("http://m/k")).unwrap();
        assert!(!plain.accept(&mirror));
        assert_eq!(download(Some("http://m/k/")).unwrap().key(), mirror.key());
        assert_eq!(download(Some("http://me:pass@m/k")).unwrap(), mirror);
    }
}
