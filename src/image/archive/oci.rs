//! `index.json`: an OCI image layout.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use super::docker;
use super::files::{Files, INDEX, LAYOUT, MANIFEST};
use super::image::{Candidate, Config, Image, Index, Request, names, wrong_platform};
use crate::error::{Error, Result};
use crate::image::reference::Reference;

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The annotation with the full name, as containerd and newer Dockers write it.
const FULL_NAME: &str = "io.containerd.image.name";
/// The annotation with a name, or only a tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation of entries that describe an image rather than being one, such as signatures.
const ATTESTATION: &str = "vnd.docker.reference.type";

/// The deepest nesting of indexes.
const DEPTH_MOST: usize = 4;
/// The most manifests that are read, in all indexes of an archive together.
const MANIFESTS_MOST: usize = 10_000;

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Platform {
    os: String,
    architecture: String,
}

/// An index, which has manifests, or the manifest of an image, which has a configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Manifest {
    media_type: String,
    manifests: Vec<Descriptor>,
    config: Option<Descriptor>,
    layers: Vec<Descriptor>,
}

/// The search for the images of the node's platform.
struct Search<'a> {
    files: &'a Files<'a>,
    request: &'a Request,
    /// The other platforms that were found.
    others: BTreeSet<String>,
    looked_at: usize,
}

pub(super) fn candidates(files: &Files<'_>, request: &Request) -> Result<Vec<Candidate>> {
    let index: Manifest = files
        .json(INDEX)?
        .ok_or_else(|| files.errors.missing(INDEX))?;
    // Descriptors with the same names are the same image for several platforms.
    let mut groups: BTreeMap<BTreeSet<Reference>, Vec<Descriptor>> = BTreeMap::new();
    for descriptor in index.manifests {
        if is_attestation(&descriptor) {
            continue;
        }
        let names = names(given_name(&descriptor), request)?;
        groups.entry(names).or_default().push(descriptor);
    }
    let older: Vec<docker::Item> = files.json(MANIFEST)?.unwrap_or_default();
    let mut candidates: Vec<Candidate> = Vec::new();
    for (names, descriptors) in groups {
        let mut search = Search {
            files,
            request,
            others: BTreeSet::new(),
            looked_at: 0,
        };
        let mut found = search.all(&descriptors, 0)?;
        found.dedup_by(|a, b| a.entry["digest"] == b.entry["digest"]);
        if found.is_empty() {
            return Err(wrong_platform(request, &search.others));
        }
        if found.len() > 1 && !names.is_empty() {
            let arch = &request.arch;
            let why = format!("it holds several images for linux/{arch} under one name");
            return Err(files.errors.damaged(why));
        }
        for mut candidate in found {
            candidate.names.clone_from(&names);
            if names.is_empty() {
                candidate.names = older_names(&candidate.id, &older, files, request)?;
            }
            candidates.push(candidate);
        }
    }
    Ok(merged(candidates))
}

/// Leaves one entry for each image: the same image may be listed once for each of its names.
fn merged(candidates: Vec<Candidate>) -> Vec<Candidate> {
    let mut merged: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        let is_same = |c: &&mut Candidate| c.entry["digest"] == candidate.entry["digest"];
        match merged.iter_mut().find(is_same) {
            Some(same) => same.names.extend(candidate.names),
            None => merged.push(candidate),
        }
    }
    merged
}

/// Returns the names that `manifest.json` gives to an image.
fn older_names(
    id: &str,
    items: &[docker::Item],
    files: &Files<'_>,
    request: &Request,
) -> Result<BTreeSet<Reference>> {
    let is_same = |item: &&docker::Item| {
        let config = files.get(&item.config);
        config.is_some_and(|(_, file)| file.digest == id)
    };
    let tags = items
        .iter()
        .filter(is_same)
        .flat_map(|item| &item.repo_tags);
    names(tags.flatten(), request)
}

fn is_attestation(descriptor: &Descriptor) -> bool {
    let annotations = descriptor.annotations.as_ref();
    annotations.is_some_and(|a| a.contains_key(ATTESTATION))
}

fn given_name(descriptor: &Descriptor) -> Option<&String> {
    let annotations = descriptor.annotations.as_ref()?;
    annotations.get(FULL_NAME).or_else(|| {
        // A bare word is a tag of a name that the archive does not hold.
        let text = annotations.get(REF_NAME)?;
        text.contains(['/', ':']).then_some(text)
    })
}

impl Search<'_> {
    /// Returns the images for the node's platform among these.
    fn all(&mut self, descriptors: &[Descriptor], depth: usize) -> Result<Vec<Candidate>> {
        let mut found = Vec::new();
        for descriptor in descriptors {
            self.looked_at += 1;
            if depth > DEPTH_MOST || self.looked_at > MANIFESTS_MOST {
                return Err(self.files.errors.damaged("its indexes hold one another"));
            }
            if is_attestation(descriptor) {
                continue;
            }
            if let Some(platform) = &descriptor.platform
                && !self.fits(&platform.os, &platform.architecture)
            {
                continue;
            }
            let manifest: Manifest = self.load(descriptor)?;
            if manifest.config.is_none() {
                if manifest.manifests.is_empty() {
                    let digest = &descriptor.digest;
                    let why = format!("{digest} is neither an index nor a manifest of an image");
                    return Err(self.files.errors.damaged(why));
                }
                found.extend(self.all(&manifest.manifests, depth + 1)?);
            } else if let Some(image) = self.image(descriptor, manifest)? {
                found.push(image);
            }
        }
        Ok(found)
    }

    fn fits(&mut self, os: &str, architecture: &str) -> bool {
        let fits = os == "linux" && architecture == self.request.arch;
        if !fits && !architecture.is_empty() && architecture != "unknown" {
            self.others.insert(format!("{os}/{architecture}"));
        }
        fits
    }

    /// Checks a manifest and all that it refers to, if it is for the node.
    fn image(&mut self, descriptor: &Descriptor, manifest: Manifest) -> Result<Option<Candidate>> {
        let Some(config) = &manifest.config else {
            return Ok(None);
        };
        let is_image = config.media_type.is_empty()
            || config.media_type.contains("image.config")
            || config.media_type.contains("container.image");
        if !is_image {
            return Err(self.not_an_image(&config.media_type));
        }
        let parsed: Config = self.load(config)?;
        if !self.fits(&parsed.os, &parsed.architecture) {
            return Ok(None);
        }
        if parsed.rootfs.diff_ids.len() != manifest.layers.len() {
            let (lists, has) = (manifest.layers.len(), parsed.rootfs.diff_ids.len());
            let errors = self.files.errors;
            return Err(errors.wrong_layers(&descriptor.digest, lists, has));
        }
        let mut size = 0;
        for layer in &manifest.layers {
            self.check(layer)?;
            size += layer.size;
        }
        let first = |a: &String, b: &String| if a.is_empty() { b.clone() } else { a.clone() };
        let media_type = first(&descriptor.media_type, &manifest.media_type);
        Ok(Some(Candidate {
            names: BTreeSet::new(),
            id: config.digest.clone(),
            size,
            entry: json!({
                "mediaType": first(&media_type, &MANIFEST_TYPE.to_owned()),
                "digest": descriptor.digest,
                "size": descriptor.size,
            }),
        }))
    }

    fn not_an_image(&self, media_type: &str) -> Error {
        let label = &self.request.label;
        Error::assets(format!(
            "{label} holds something else than a container image: {media_type}"
        ))
        .with_hint("Helm charts and other artifacts cannot be run as containers")
    }

    /// Checks that the blob is there, with its size; its content was checked while it was read.
    fn check(&self, descriptor: &Descriptor) -> Result<String> {
        let errors = self.files.errors;
        let digest = &descriptor.digest;
        let Some((algorithm, hex)) = digest.split_once(':') else {
            let digest = digest.escape_debug();
            return Err(errors.damaged(format!("`{digest}` is not a digest")));
        };
        if algorithm != "sha256" {
            return Err(errors.damaged(format!("{digest} is not a SHA-256, the only known kind")));
        }
        let path = format!("blobs/{algorithm}/{hex}");
        let Some((_, file)) = self.files.get(&path) else {
            return Err(errors.missing(format!("the blob {digest}")));
        };
        if file.size != descriptor.size || file.digest != *digest {
            return Err(errors.damaged(format!(
                "the blob {digest} has {} bytes instead of {}",
                file.size, descriptor.size
            )));
        }
        Ok(path)
    }

    fn load<T: serde::de::DeserializeOwned>(&self, descriptor: &Descriptor) -> Result<T> {
        let path = self.check(descriptor)?;
        let missing = || self.files.errors.missing(format!("`{path}`"));
        self.files.json(&path)?.ok_or_else(missing)
    }
}

/// Returns `index.json` with the final names, and the mark of the layout.
pub(super) fn index(images: &[(Image, Value)]) -> Index {
    let mut manifests = Vec::new();
    for (image, entry) in images {
        for name in &image.names {
            let mut item = entry.clone();
            item["annotations"] = json!({FULL_NAME: name, REF_NAME: name.tag()});
            manifests.push(item);
        }
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests});
    let layout = json!({"imageLayoutVersion": "1.0.0"});
    vec![(INDEX, index.to_string()), (LAYOUT, layout.to_string())]
}
