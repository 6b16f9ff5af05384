//! The step that makes machines nodes of the cluster: control planes one after the other, since etcd takes one
//! new member at a time, then all workers at the same time.
//!
//! A machine that a worker boots belongs to no cluster at first, and is saved as a template before it
//! joins: the other new workers are copies of it.

use std::time::{Duration, Instant};

use crate::addon::Rollouts;
use crate::cluster::addons;
use crate::cluster::start::context::{Flow, HEALTH_LIMIT, Origin, Start};
use crate::cluster::start::joins::{self, Joins};
use crate::cluster::start::wait::{OnDemand, Waiting};
use crate::cluster::start::{identity as send_identity, machines, node_images, retry, template};
use crate::cni::Cni;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::role::Role;
use crate::wait;

/// The interval at which nodes are asked for that wait for a network plugin.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Starts the workers that waited for a template, and joins all nodes to the first.
pub(super) fn run(start: &mut Start<'_>) -> Result<Flow> {
    let others = 1..start.nodes.len();
    if others.is_empty() {
        return Ok(Flow::Next);
    }
    // From here on errors are about other nodes: the first has proved good.
    start.settled = true;
    let (control_planes, workers): (Vec<usize>, Vec<usize>) =
        others.partition(|node| start.profile_of(*node).role == Role::ControlPlane);
    for node in workers.iter().copied() {
        match template::save_worker(start, node) {
            Err(e) if e.kind() != Kind::Interrupted => retry::other(start, node, e)?,
            saved => saved?,
        }
    }
    begin_waiting(start)?;
    start.stage("workers");
    for node in control_planes {
        join_until_ready(start, vec![node])?;
    }
    join_until_ready(start, workers)?;
    node_images::load_archives(start)?;
    node_images::bring(start)?;
    if start.cluster.profile.spec.cni == Cni::Addon {
        all_ready(start)?;
    }
    // Where nothing gives pods a network yet, none of them runs.
    if is_growing(start) || start.waits_for_network()? {
        start.stage("join");
        return Ok(Flow::Next);
    }
    let ready = addons_everywhere(start);
    // What is wrong with a copy may be in its template, which the next attempt does without.
    start.settled = ready.is_ok() || start.nodes[0].copy_of.is_none();
    ready?;
    start.stage("join");
    Ok(Flow::Next)
}

/// Waits until all nodes are Ready. With a plugin of the user's they have joined before its images were there.
fn all_ready(start: &Start<'_>) -> Result<()> {
    let step = start.env.progress.step("Wait for the network plugin");
    let api = start.api()?;
    let deadline = Instant::now() + start.limit(HEALTH_LIMIT);
    for node in &start.cluster.profile.nodes {
        wait::retry(deadline, ASK_EVERY, Kind::Unhealthy, || {
            match api.node(&node.name)? {
                Some(status) if status.ready => Ok(()),
                Some(status) => Err(Error::unhealthy(status.reason)),
                None => Err(Error::unhealthy("it is not registered")),
            }
        })
        .context(Kind::Unhealthy, || {
            format!("the node `{}` is not Ready", node.name)
        })?;
    }
    step.done("all nodes are Ready");
    Ok(())
}

/// Returns whether nodes are added to a cluster that runs. Its add-ons run already; their pods on the new nodes
/// begin as any others do that are meant for each node.
fn is_growing(start: &Start<'_>) -> bool {
    start.options.adds_nodes
        && start.nodes[0].origin == Origin::Running
        && start.nodes.iter().any(|node| node.created)
}

/// Joins these nodes, again where a machine died meanwhile.
fn join_until_ready(start: &mut Start<'_>, nodes: Vec<usize>) -> Result<()> {
    let mut left = nodes;
    left.retain(|node| !start.nodes[*node].joined);
    while !left.is_empty() {
        let failed = join_all(start, &left)?;
        left.clear();
        for (node, error) in failed {
            retry::other(start, node, error)?;
            left.push(node);
        }
        begin_waiting(start)?;
    }
    Ok(())
}

/// Starts the machines of nodes that are not running yet.
fn begin_waiting(start: &mut Start<'_>) -> Result<()> {
    for node in 1..start.nodes.len() {
        while !start.nodes[node].runs {
            machines::run_one(start, node)?;
            send_identity::send(start, &[node])?;
            // It boots because no template could be saved: the others wait no longer.
            start.nodes[node].template = None;
        }
    }
    Ok(())
}

/// Joins nodes; returns those that failed, with their errors.
fn join_all(start: &mut Start<'_>, nodes: &[usize]) -> Result<Vec<(usize, Error)>> {
    let joins = Joins::prepare(start, nodes)?;
    let results = joins.run(&mut start.nodes[1..]);
    joins::record(start, results)
}

/// Waits until the add-ons run on all nodes. Not before the workers have joined: pods that belong on a node
/// that is to be repaired are not ready, and each copy of a template that was saved before would have to
/// start them.
fn addons_everywhere(start: &mut Start<'_>) -> Result<()> {
    let addons = addons::enabled(&start.cluster.profile, &start.cluster.dir)?;
    let (api, plan) = (start.api()?, start.plan(0)?);
    let limit = start.limit(HEALTH_LIMIT);
    let boots = start.cluster.profile.nodes.iter().zip(&start.nodes);
    let boots = boots.filter_map(|(node, state)| Some((node.name.clone(), state.booted?)));
    let mut rollouts = Rollouts::of(&addons).since(boots.collect());
    let step = start.env.progress.step("Wait for the add-ons");
    let target = start.cluster.target_of(start.profile_of(0))?;
    let node = &mut start.nodes[0];
    let mut on_demand = OnDemand::new(start.env.backend, target, limit);
    let mut waiting = Waiting {
        api: &api,
        remote: match &mut node.session {
            Some(session) => session.as_mut(),
            None => &mut on_demand,
        },
        units: &plan.units,
        watcher: &mut node.watcher,
        deadline: Instant::now() + limit,
        without_network: start.cluster.profile.lacks_network(),
        cancel: None,
    };
    waiting.addons(&mut rollouts, &step)?;
    step.done("ready");
    Ok(())
}
