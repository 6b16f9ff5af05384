//! The step that gets the images into the storage pool, and says which templates fit.

use crate::assets::components::{self, ComponentSet};
use crate::assets::download::Limits;
use crate::assets::node_image::NodeImage;
use crate::assets::version::KubernetesVersion;
use crate::cluster::env::{AssetRequest, Env};
use crate::cluster::machine::host::BaseVolumes;
use crate::cluster::saved::suspend;
use crate::cluster::spec::ClusterArgs;
use crate::cluster::start::context::{Flow, Start};
use crate::cluster::start::template;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::role::Role;
use crate::units::{Mebibytes, human_bytes};

/// Gets the images unless the machine runs or resumes, which needs none.
pub(super) fn run(start: &mut Start<'_>) -> Result<Flow> {
    if !start.was_running && !suspend::is_suspended(&start.cluster) {
        get(start)?;
    }
    Ok(Flow::Next)
}

/// Gets the images that the pool lacks.
pub(super) fn get(start: &mut Start<'_>) -> Result<()> {
    let known = !start.cluster.profile.assets.node_image.is_empty();
    let base = BaseVolumes::of(&start.cluster.profile.assets);
    let assets = if known && base.are_in(&start.host.volumes()?) {
        None
    } else {
        Some(record(start)?)
    };
    start.stage("assets");
    interrupt::check()?;
    let progress = start.env.progress;
    let shared = start.env.store.lock_shared(|| {
        progress.note("waiting for another kubby process to finish uploading images");
    })?;
    start.host.ensure_pool()?;
    if let Some((image, components)) = &assets {
        let base = BaseVolumes::of(&start.cluster.profile.assets);
        start.host.upload_base(&base, image, components, progress)?;
    }
    drop(shared);
    if start.created {
        start.template = template::find(start)?;
    }
    for node in 1..start.nodes.len() {
        if start.nodes[node].created && start.profile_of(node).role == Role::Worker {
            start.nodes[node].template = template::find_worker(start, node)?;
        }
    }
    Ok(())
}

/// Gets the assets and records which they are.
fn record(start: &mut Start<'_>) -> Result<(NodeImage, ComponentSet)> {
    let version = start.cluster.profile.version()?;
    let (image, components) = get_assets(&start.env, version, &start.options.cluster)?;
    let flag = start.cluster.flag();
    let pause_image = components.image("pause")?.to_owned();
    let disk = Mebibytes(start.cluster.profile.first().machine.disk_mib);
    let assets = &mut start.cluster.profile.assets;
    if !assets.node_image.is_empty() && assets.node_image != image.key {
        // The node's disk is an overlay, which is garbage over another image.
        return Err(Error::state(format!(
            "the base image ({}) of the node's disk no longer exists, and this version of kubby \
                 builds a different one",
            assets.node_image
        ))
        .with_hint(format!("kubby delete{flag}, then kubby start{flag}")));
    }
    if image.virtual_size > disk.bytes() {
        return Err(Error::usage(format!(
            "--disk: {disk} is less than the node image itself, {}",
            human_bytes(image.virtual_size)
        ))
        .with_hint(format!(
            "kubby delete{flag}, then kubby start{flag} with a larger --disk"
        )));
    }
    assets.node_image.clone_from(&image.key);
    assets.components.clone_from(&components.key);
    assets.pause_image = pause_image;
    assets.kubectl.clone_from(&components.kubectl);
    start.cluster.save()?;
    Ok((image, components))
}

/// Gets the node image and the components, from the cache or by making them.
///
/// # Errors
/// [`Kind::Assets`](crate::error::Kind::Assets) for the one that could not be had.
pub(crate) fn get_assets(
    env: &Env<'_>,
    version: KubernetesVersion,
    args: &ClusterArgs,
) -> Result<(NodeImage, ComponentSet)> {
    let request = AssetRequest {
        components: components::Request {
            version,
            source: args.component_source,
            dir: args.components.as_deref(),
            binary_mirror: args.binary_mirror.as_deref(),
            extras: None,
            cache: env.store.cache(),
            limits: Limits::default(),
        },
        image: args
            .image
            .as_deref()
            .map(|image| (image, args.image_sha256.as_deref())),
    };
    env.backend.assets(&request, env.progress)
}
