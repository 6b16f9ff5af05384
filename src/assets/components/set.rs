//! A set of components, and the request for one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::assets::download::{Failure, Limits};
use crate::assets::version::KubernetesVersion;
use crate::error::{Error, Result};

/// The source of components, after the cache; its comments are the texts of
/// `--component-source` in the help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Source {
    /// Official downloads; a build from Go modules if they cannot be reached
    #[default]
    Auto,
    /// Official downloads only
    Download,
    /// A build from Go modules only
    Build,
}

impl Source {
    /// Returns whether a failed download may be followed by a build. Only a host out of reach
    /// justifies it: after a bad checksum, building would hide that the downloads were tampered
    /// with.
    pub(super) fn may_build(self, why: Option<Failure>) -> bool {
        self == Source::Auto && why == Some(Failure::Unreachable)
    }
}

/// A request for components.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The version of Kubernetes.
    pub version: KubernetesVersion,
    /// The places that they may come from, unless `dir` is set.
    pub source: Source,
    /// A folder that the user prepared (`--components DIR`); nothing else is then tried.
    pub dir: Option<&'a Path>,
    /// Another base URL with the layout of the official ones (`--binary-mirror`).
    pub binary_mirror: Option<&'a str>,
    /// A folder with the programs and images that Kubernetes does not come with, laid out as `dir`
    /// is: what it has is not built beside official downloads.
    pub extras: Option<&'a Path>,
    /// The cache folder of kubby; sets are kept under `components` in it.
    pub cache: &'a Path,
    /// The patience of downloads.
    pub limits: Limits,
}

/// Components that are ready to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentSet {
    /// The version of Kubernetes.
    pub version: KubernetesVersion,
    /// Identifies the set: 64 hex digits, a hash of all that it was made from.
    pub key: String,
    /// The read-only erofs image: `/bin`, `/images`, `/manifest.json`, and mostly `/containerd` and
    /// `/etcd`.
    pub volume: PathBuf,
    /// A kubectl of the same version that runs on this host.
    pub kubectl: PathBuf,
    /// The client of the node's buildkitd, of the same version, that runs on this host.
    pub buildctl: PathBuf,
    /// The references of the images in the volume, by the names of their archives in `/images`, as
    /// [`IMAGES`](super::catalog::IMAGES) has them unless a user's folder had others.
    pub images: BTreeMap<String, String>,
    /// The version of etcd, such as `3.7.3`.
    pub etcd_version: String,
    /// The version of CoreDNS, such as `1.15.0`.
    pub coredns_version: String,
    /// The source of the set: `download`, `build` or `directory`.
    pub origin: String,
}

impl ComponentSet {
    /// Returns the reference of the image in the volume's `/images/NAME.tar`.
    ///
    /// # Errors
    /// [`Kind::Assets`](crate::error::Kind::Assets) where the set has no such image.
    pub fn image(&self, name: &str) -> Result<&str> {
        self.images.get(name).map(String::as_str).ok_or_else(|| {
            let message = format!(
                "the components in {} lack the image {name}",
                self.volume.display()
            );
            Error::assets(message)
        })
    }

    /// Returns the folder of its files, which is mostly its entry in the cache.
    pub fn folder(&self) -> &Path {
        crate::fsutil::folder_of(&self.volume)
    }
}
