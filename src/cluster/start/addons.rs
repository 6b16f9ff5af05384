//! The step that imports the add-ons' images and applies their manifests, as soon as the API accepts
//! writes, which in a new cluster it does seconds before it is ready.

use std::time::Instant;

use crate::addon::{self, Addon};
use crate::api::ApiClient;
use crate::cluster::start::addon_images::Loading;
use crate::cluster::start::context::{Flow, HEALTH_LIMIT, Start};
use crate::cluster::start::wait::Waiting;
use crate::cluster::{addons, policies};
use crate::error::Result;
use crate::provision;

/// Applies the add-ons; a no-op for a node that has its identity, in which they were saved.
pub(super) fn run(start: &mut Start<'_>) -> Result<Flow> {
    if start.nodes[0].identity_sent {
        return Ok(Flow::Next);
    }
    let progress = start.env.progress;
    let (api, plan) = (start.api()?, start.plan(0)?);
    let takes_objects = |api: &ApiClient| api.takes_objects().map(Some);
    let deadline = Instant::now() + start.limit(HEALTH_LIMIT);
    let step = progress.step("Wait for the API");
    let node = &mut start.nodes[0];
    Waiting {
        api: &api,
        remote: match &mut node.session {
            Some(session) => session.as_mut(),
            None => return Ok(Flow::Next),
        },
        units: &plan.units,
        watcher: &mut node.watcher,
        deadline,
        without_network: start.cluster.profile.lacks_network(),
        cancel: None,
    }
    .api("does not accept writes", &step, takes_objects)?;
    step.done("it accepts writes");
    start.stage("api");
    // An API that has its roles already is about to be ready; another creates them first, which takes its
    // processors, and the health check starts the others then.
    if api.nearly_ready().unwrap_or(false) {
        provision::start_all(start.nodes[0].session()?)?;
        start.nodes[0].late_started = true;
    }
    let addons = addons::enabled(&start.cluster.profile, &start.cluster.dir)?;
    let all: Vec<&Addon> = addons.iter().collect();
    let step = progress.step("Apply the add-ons");
    // Images first: the kubelet retries a pod without its image only after a while. Where everything ran
    // once, even before this boot, the images exist.
    if !addon::Rollouts::of(all.iter().copied())
        .look(&api)
        .unwrap_or(false)
    {
        step.detail("importing images");
        addons::import(start.nodes[0].session()?, &all)?;
        start.stage("images");
    }
    step.detail("applying manifests");
    let flag = start.cluster.flag();
    let apply = |some: &[&Addon]| addons::apply(&api, some, false, deadline, &flag, progress);
    // Add-ons whose images may still be loading come last, so that the others need not wait.
    let (own, others): (Vec<_>, Vec<_>) = all.iter().partition(|a| a.folder.is_some());
    apply(&others)?;
    std::mem::take::<Loading>(&mut start.loading).end(progress)?;
    apply(&own)?;
    remove_unwanted(start, &api, deadline)?;
    step.done(start.cluster.profile.spec.addons.join(", "));
    warn_of_policies(start, &api);
    start.stage("addons");
    Ok(Flow::Next)
}

/// Warns of NetworkPolicies that nothing enforces.
fn warn_of_policies(start: &Start<'_>, api: &ApiClient) {
    if let Ok(Some((text, remedy))) = policies::unenforced(api, &start.cluster.profile) {
        start.env.progress.warn(&format!("{text}; {remedy}"));
    }
}

/// Removes the add-ons that the user wants no more.
fn remove_unwanted(start: &Start<'_>, api: &ApiClient, deadline: Instant) -> Result<()> {
    for name in &start.options.cluster.no_addon {
        addon::remove(api, name, deadline)?;
        addon::forget(&start.cluster.dir, name)?;
        let running = || {
            let nodes = start.cluster.nodes()?.into_iter().zip(&start.nodes);
            Ok(nodes
                .filter_map(|(node, state)| state.runs.then_some(node))
                .collect())
        };
        addons::tidy(start.env.backend, running, name, start.env.progress)?;
    }
    Ok(())
}
