//! `manifest.json`: the format of `docker save` before version 25, and of `podman save`.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};

use super::files::{Files, MANIFEST};
use super::image::{Candidate, Config, Image, Index, Request, names, wrong_platform};
use crate::error::Result;

/// An image of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Item {
    pub(super) config: String,
    pub(super) repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

pub(super) fn candidates(files: &Files<'_>, request: &Request) -> Result<Vec<Candidate>> {
    let items: Vec<Item> = files.json(MANIFEST)?.unwrap_or_default();
    items
        .iter()
        .map(|item| candidate(item, files, request))
        .collect()
}

fn candidate(item: &Item, files: &Files<'_>, request: &Request) -> Result<Candidate> {
    let errors = files.errors;
    let missing = |what: &str| errors.missing(format!("`{what}`"));
    let (config_name, config_file) = files
        .get(&item.config)
        .ok_or_else(|| missing(&item.config))?;
    let config: Config = files
        .json(&item.config)?
        .ok_or_else(|| missing(&item.config))?;
    if config.os != "linux" || config.architecture != request.arch {
        let platform = format!("{}/{}", config.os, config.architecture);
        return Err(wrong_platform(request, &BTreeSet::from([platform])));
    }
    if config.rootfs.diff_ids.len() != item.layers.len() {
        let (lists, has) = (item.layers.len(), config.rootfs.diff_ids.len());
        return Err(errors.wrong_layers(MANIFEST, lists, has));
    }
    let mut size = 0;
    let mut layers = Vec::with_capacity(item.layers.len());
    for (layer, diff_id) in item.layers.iter().zip(&config.rootfs.diff_ids) {
        let (layer_name, file) = files.get(layer).ok_or_else(|| missing(layer))?;
        if !file.compressed && file.digest != *diff_id {
            return Err(errors.damaged(format!("the content of `{layer}` is not {diff_id}")));
        }
        size += file.size;
        layers.push(layer_name);
    }
    Ok(Candidate {
        names: names(item.repo_tags.iter().flatten(), request)?,
        id: config_file.digest.clone(),
        size,
        entry: json!({"Config": config_name, "Layers": layers}),
    })
}

/// Returns `manifest.json` with the final names.
pub(super) fn index(images: &[(Image, Value)]) -> Index {
    let items = images.iter().map(|(image, entry)| {
        let mut item = entry.clone();
        item["RepoTags"] = json!(image.names);
        item
    });
    vec![(MANIFEST, Value::from_iter(items).to_string())]
}
