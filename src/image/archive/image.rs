//! The images of an archive, and the requests for them.

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::errors::Errors;
use crate::error::{Error, Result};
use crate::image::reference::Reference;

/// The facts about an archive that are known before it is read.
#[derive(Debug, Default)]
pub struct Request {
    /// The archive's name in messages.
    pub label: String,
    /// The node's architecture as images name it, such as `amd64`.
    pub arch: String,
    /// Names to give instead of those in the archive; the archive must then hold one image.
    pub names: Vec<Reference>,
    /// A name to give to the one image of the archive besides those that it has.
    pub also: Option<Reference>,
    /// Digests of blobs that need not be passed on.
    pub present: HashSet<String>,
}

/// An image of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Image {
    /// Its names, complete.
    pub names: Vec<Reference>,
    /// The digest of its configuration, by which container runtimes and the kubelet know it.
    pub id: String,
    /// Size of its layers as they are in the archive, in bytes.
    #[serde(rename = "sizeBytes")]
    pub size: u64,
}

/// Files to pass on in the end.
pub(super) type Index = Vec<(&'static str, String)>;

/// An image whose final names are not decided yet.
pub(super) struct Candidate {
    /// The names that the archive gives it.
    pub(super) names: BTreeSet<Reference>,
    pub(super) id: String,
    pub(super) size: u64,
    /// Its entry in the index, without its names.
    pub(super) entry: Value,
}

/// The parts of an image's configuration that matter here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    pub(super) os: String,
    pub(super) architecture: String,
    pub(super) rootfs: RootFs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RootFs {
    pub(super) diff_ids: Vec<String>,
}

/// Completes the names that the archive gives to an image; none where the request has names. Digests are
/// left off: the runtime adds the right ones.
pub(super) fn names<'a>(
    texts: impl IntoIterator<Item = &'a String>,
    request: &Request,
) -> Result<BTreeSet<Reference>> {
    if !request.names.is_empty() {
        return Ok(BTreeSet::new());
    }
    let complete = |text: &String| {
        let plain = text.split('@').next().unwrap_or_default();
        plain.parse().map_err(|e| {
            let damaged = Errors(&request.label).damaged(e);
            damaged.with_hint("give it another name: kubby image load … --as NAME:TAG")
        })
    };
    texts.into_iter().map(complete).collect()
}

/// Makes the error about an image for other machines than the node.
pub(super) fn wrong_platform(request: &Request, found: &BTreeSet<String>) -> Error {
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    let (label, found, arch) = (&request.label, found.join(", "), &request.arch);
    Error::assets(format!(
        "{label} holds an image for {found}, and the node is linux/{arch}"
    ))
    .with_hint(format!(
        "build or pull it for the node: docker build --platform linux/{arch}, \
         docker pull --platform linux/{arch}"
    ))
}
