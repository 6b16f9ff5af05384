//! From the files of an archive to the images in it, and the index that names them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::errors::Errors;
use super::files::{Files, INDEX, MANIFEST};
use super::image::{Candidate, Image, Index, Request};
use super::{docker, oci};
use crate::error::{Error, Result};
use crate::image::reference::Reference;

pub(super) fn conclude(files: &Files<'_>, request: &Request) -> Result<(Vec<Image>, Index)> {
    let index: fn(&[(Image, Value)]) -> Index;
    // Newer Dockers write both; container runtimes then use the OCI layout, and so does kubby.
    let candidates = if files.get(INDEX).is_some() {
        index = oci::index;
        oci::candidates(files, request)?
    } else if files.get(MANIFEST).is_some() {
        index = docker::index;
        docker::candidates(files, request)?
    } else {
        let why = "it is a tar archive with neither index.json nor manifest.json";
        return Err(files.errors.not_an_archive(why));
    };
    let images = named(candidates, request)?;
    let index = index(&images);
    Ok((images.into_iter().map(|i| i.0).collect(), index))
}

/// Decides the final names.
fn named(candidates: Vec<Candidate>, request: &Request) -> Result<Vec<(Image, Value)>> {
    let errors = Errors(&request.label);
    let label = errors.0;
    let count = candidates.len();
    if count == 0 {
        return Err(errors.not_an_archive("its index lists no image"));
    }
    if count > 1 && !request.names.is_empty() {
        let message = format!("{label} holds {count} images, and --as names one");
        return Err(Error::usage(message)
            .with_hint("leave --as out; kubby image tag gives further names afterwards"));
    }
    let mut seen = BTreeSet::new();
    let mut images = Vec::with_capacity(count);
    for candidate in candidates {
        let mut names: BTreeSet<Reference> = match request.names.as_slice() {
            [] => candidate.names,
            names => names.iter().cloned().collect(),
        };
        names.extend(request.also.iter().filter(|_| count == 1).cloned());
        if names.is_empty() {
            return Err(
                Error::usage(format!("{label} holds an image without a name"))
                    .with_hint("give it one: kubby image load … --as NAME:TAG"),
            );
        }
        for name in &names {
            if !seen.insert(name.clone()) {
                return Err(errors.damaged(format!("two images in it are called {name}")));
            }
        }
        let image = Image {
            names: names.into_iter().collect(),
            id: candidate.id,
            size: candidate.size,
        };
        images.push((image, candidate.entry));
    }
    Ok(images)
}
