//! `kubby start`: a list of steps, in their order. Each step looks first and changes only what differs,
//! so that running `start` again repairs whatever is missing.

pub(crate) mod addon_images;
mod addons;
mod assets;
mod check;
mod configure;
mod connect;
pub(crate) mod context;
mod control_planes;
pub(crate) mod endpoint;
mod health;
mod identity;
mod join;
mod joins;
mod kubeconfig;
mod machines;
mod members;
mod node_images;
mod retry;
pub(crate) mod services;
pub(crate) mod template;
pub(crate) mod timing;
mod wait;

pub(crate) use assets::get_assets;

use std::time::Duration;

use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::cluster::machine::host::Host;
use crate::cluster::spec::StartOptions;
use crate::egress::{self, HostFacts};
use crate::error::{Error, Kind, Result};
use crate::interrupt;
use crate::name::ProfileName;
use crate::profile::Profile;

use context::{CONNECT, Flow, MACHINES, Origin, Start};

/// A step, which says with which one to continue.
type Step = fn(&mut Start<'_>) -> Result<Flow>;

/// The steps of a start, after [`check::begin`] has checked the host and settled the profile.
const STEPS: &[(&str, Step)] = &[
    ("Get the images", assets::run),
    (MACHINES, machines::run),
    ("Open the API's address", endpoint::run),
    ("Send the identity", identity::run),
    (CONNECT, |start| connect::run(start, 0)),
    ("Configure Kubernetes", |start| configure::run(start, 0)),
    ("Bring back the control planes", control_planes::run),
    ("Apply the add-ons", addons::run),
    ("Check the cluster's health", health::run),
    ("Join the other nodes", join::run),
    ("Lead to all control planes", endpoint::run),
    ("Save a warm template", template::run),
    ("Open the ports of Services", services::run),
    ("Write the kubeconfig context", kubeconfig::run),
];

/// The result of a start.
#[derive(Debug)]
pub(crate) struct Started {
    /// The cluster.
    pub cluster: Cluster,
    /// The cluster was created by this start.
    pub created: bool,
    /// The virtual machine was running before this start.
    pub was_running: bool,
    /// The first virtual machine is a copy of a warm template.
    pub from_template: bool,
    /// Paths in the node that were written.
    pub changed: Vec<String>,
    /// Certificates that were renewed, by their files' names.
    pub renewed: Vec<String>,
    /// The kubeconfig's current context is this cluster's.
    pub current_context: bool,
    /// The kubelet's version with `v`.
    pub node_version: String,
    /// The duration of each stage, in their order.
    pub stages: Vec<(&'static str, Duration)>,
}

/// Creates a cluster, brings it back, or repairs what is missing.
///
/// # Errors
/// Of every class; everything made until then stays, and the next `start` continues from it.
pub(crate) fn start(env: &Env<'_>, name: &ProfileName, options: &StartOptions) -> Result<Started> {
    // Settings that make no sense are reported before anything is created.
    let settings = options.cluster.egress.settings()?;
    let host_facts = env.backend.host_facts();
    egress::proxy::from_environment(|name| host_facts.variable(name))?;
    let lock = env.lock(name)?;
    let started = start_locked(env, name, options, &host_facts, &settings);
    drop(lock);
    if started.is_err() {
        // One that was refused leaves no home that it has made for its lock.
        let _ = env.store.remove_if_empty();
    }
    started
}

fn start_locked(
    env: &Env<'_>,
    name: &ProfileName,
    options: &StartOptions,
    host_facts: &HostFacts,
    settings: &egress::Settings,
) -> Result<Started> {
    let existing = Profile::load(&env.store.profile_dir(name))?;
    let uri = match (&existing, &options.cluster.connect) {
        (Some(profile), _) => profile.connect.clone(),
        (None, Some(asked)) if !asked.is_empty() => asked.clone(),
        (None, _) => env.backend.default_uri(),
    };
    let host = Host::open(env, &uri)?;
    let mut start = check::begin(env, name, options, &host, host_facts, existing, settings)?;
    start.stage("check");
    run(&mut start)?;
    Ok(Started {
        created: start.created,
        was_running: start.was_running,
        from_template: start.nodes[0].origin == Origin::Copied,
        changed: start.changed,
        renewed: start.renewed,
        current_context: start.current_context,
        node_version: start.node_version,
        stages: start.timing.stages,
        cluster: start.cluster,
    })
}

/// Runs the steps in their order. A step can send the start back to an earlier one; so does a machine
/// that dies.
fn run(start: &mut Start<'_>) -> Result<()> {
    let mut next = 0;
    while let Some((_, step)) = STEPS.get(next) {
        interrupt::check()?;
        let flow = match step(start) {
            Ok(flow) => flow,
            Err(e) if e.kind() == Kind::Interrupted => return Err(e),
            Err(e) => retry::prepare(start, e)?,
        };
        next = match flow {
            Flow::Next => next + 1,
            Flow::BackTo(title) => position(title)?,
        };
    }
    Ok(())
}

fn position(title: &str) -> Result<usize> {
    STEPS
        .iter()
        .position(|(step, _)| *step == title)
        .ok_or_else(|| Error::internal(format!("there is no step `{title}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_that_are_gone_back_to_exist_once() {
        for title in [MACHINES, CONNECT] {
            assert_eq!(STEPS.iter().filter(|(step, _)| *step == title).count(), 1);
            position(title).unwrap();
        }
    }
}
