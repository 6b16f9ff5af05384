//! From the files of an archive to the images in it, and the index that names them.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::files::{Files, INDEX, MANIFEST};
use super::{Image, Request, Say, docker, oci};
use crate::error::{Error, Kind, Result};
use crate::image::reference::Reference;

/// Files to pass on in the end.
pub(super) type Index = Vec<(String, Vec<u8>)>;

/// An image before it is known how it will be called.
pub(super) struct Candidate<T> {
    /// The names that the archive gives it.
    pub(super) names: BTreeSet<Reference>,
    pub(super) id: String,
    pub(super) size: u64,
    /// What the index says of it besides its names.
    pub(super) entry: T,
}

/// The parts of an image's configuration that matter here.
#[derive(Debug, Deserialize)]
pub(super) struct Config {
    #[serde(default)]
    pub(super) os: String,
    #[serde(default)]
    pub(super) architecture: String,
    #[serde(default)]
    pub(super) rootfs: RootFs,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct RootFs {
    #[serde(default)]
    pub(super) diff_ids: Vec<String>,
}

pub(super) fn conclude(files: &Files<'_>, request: &Request) -> Result<(Vec<Image>, Index)> {
    // Newer Dockers write both; runtimes then go by the OCI layout, and so do we.
    if files.get(INDEX).is_some() {
        let images = named(oci::candidates(files, request)?, request)?;
        let index = oci::index(&images);
        Ok((images.into_iter().map(|i| i.0).collect(), index))
    } else if files.get(MANIFEST).is_some() {
        let images = named(docker::candidates(files, request)?, request)?;
        let index = docker::index(&images);
        Ok((images.into_iter().map(|i| i.0).collect(), index))
    } else {
        Err(files
            .say
            .no_archive("it is a tar archive with neither index.json nor manifest.json"))
    }
}

/// Settles the names.
fn named<T>(candidates: Vec<Candidate<T>>, request: &Request) -> Result<Vec<(Image, T)>> {
    let say = Say(&request.label);
    let count = candidates.len();
    if count == 0 {
        return Err(say.no_archive("its index lists no image"));
    }
    if count > 1 && !request.names.is_empty() {
        return Err(Error::new(
            Kind::Usage,
            format!("{} holds {count} images, and --as names one", request.label),
        )
        .with_hint("leave --as out; kubby image tag gives further names afterwards"));
    }
    let mut seen = BTreeSet::new();
    let mut images = Vec::with_capacity(count);
    for candidate in candidates {
        let mut names: Vec<Reference> = if request.names.is_empty() {
            candidate.names.into_iter().collect()
        } else {
            request.names.clone()
        };
        if let Some(also) = request.also.as_ref().filter(|_| count == 1)
            && !names.contains(also)
        {
            names.push(also.clone());
        }
        names.sort();
        names.dedup();
        if names.is_empty() {
            return Err(nameless(request));
        }
        for name in &names {
            if !seen.insert(name.clone()) {
                return Err(say.damaged(format!("two images in it are called {name}")));
            }
        }
        let image = Image {
            names,
            id: candidate.id,
            size: candidate.size,
        };
        images.push((image, candidate.entry));
    }
    Ok(images)
}

fn nameless(request: &Request) -> Error {
    Error::new(
        Kind::Usage,
        format!("{} holds an image without a name", request.label),
    )
    .with_hint("give it one: kubby image load … --as NAME:TAG")
}

/// A name of the archive, completed. Digests are left off: the runtime adds what is right.
pub(super) fn name(text: &str, say: Say<'_>) -> Result<Reference> {
    let plain = text.split('@').next().unwrap_or_default();
    plain.parse().map_err(|e| {
        say.damaged(e)
            .with_hint("give it another name: kubby image load … --as NAME:TAG")
    })
}

/// The image is for other machines than the node.
pub(super) fn wrong_platform(request: &Request, found: &BTreeSet<String>) -> Error {
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    Error::new(
        Kind::Assets,
        format!(
            "{} holds an image for {}, and the node is linux/{}",
            request.label,
            found.join(", "),
            request.arch
        ),
    )
    .with_hint(format!(
        "build or pull it for the node: docker build --platform linux/{0}, \
         docker pull --platform linux/{0}",
        request.arch
    ))
}
