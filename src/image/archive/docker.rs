//! `manifest.json`: the format of `docker save` before version 25, and of `podman save`.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};

use super::conclude::{Candidate, Config, Index, name, wrong_platform};
use super::files::{Files, MANIFEST};
use super::{Image, Request};
use crate::error::Result;

/// One image of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Item {
    pub(super) config: String,
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

pub(super) fn candidates(files: &Files<'_>, request: &Request) -> Result<Vec<Candidate<Value>>> {
    let items: Vec<Item> = files.json(MANIFEST)?.unwrap_or_default();
    items
        .iter()
        .map(|item| candidate(item, files, request))
        .collect()
}

fn candidate(item: &Item, files: &Files<'_>, request: &Request) -> Result<Candidate<Value>> {
    let say = files.say;
    let missing = |what: &str| say.cut(format!("`{what}` is missing in it"));
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
        return Err(say.damaged(format!(
            "manifest.json lists {} layers of an image of {}",
            item.layers.len(),
            config.rootfs.diff_ids.len()
        )));
    }
    let mut size = 0;
    let mut layers = Vec::with_capacity(item.layers.len());
    for (layer, diff_id) in item.layers.iter().zip(&config.rootfs.diff_ids) {
        let (layer_name, file) = files.get(layer).ok_or_else(|| missing(layer))?;
        if !file.compressed && file.digest != *diff_id {
            return Err(say.damaged(format!("the content of `{layer}` is not {diff_id}")));
        }
        size += file.size;
        layers.push(layer_name);
    }
    let names = if request.names.is_empty() {
        let tags = item.repo_tags.iter().flatten();
        tags.map(|tag| name(tag, say)).collect::<Result<_>>()?
    } else {
        BTreeSet::new()
    };
    Ok(Candidate {
        names,
        id: config_file.digest.clone(),
        size,
        entry: json!({"Config": config_name, "Layers": layers}),
    })
}

/// `manifest.json` with the final names.
pub(super) fn index(images: &[(Image, Value)]) -> Index {
    let items: Vec<Value> = images
        .iter()
        .map(|(image, entry)| {
            let mut item = entry.clone();
            item["RepoTags"] = json!(image.names);
            item
        })
        .collect();
    vec![(
        MANIFEST.to_owned(),
        Value::from(items).to_string().into_bytes(),
    )]
}
