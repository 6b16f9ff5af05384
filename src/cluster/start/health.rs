//! The step that checks the cluster's health: the same checks for a node that booted and for one that
//! resumed. In a resumed node nothing has to start, so its files are compared over SSH at the same time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::addon::{Addon, Rollouts};
use crate::cluster::addons;
use crate::cluster::machine::watch::Watcher;
use crate::cluster::start::connect::Connecting;
use crate::cluster::start::context::{CONNECT, Flow, HEALTH_LIMIT, Start};
use crate::cluster::start::joins::{self, Joins};
use crate::cluster::start::timing::Stopwatch;
use crate::cluster::start::wait::{OnDemand, Waiting};
use crate::error::{Error, Result};
use crate::profile::NodeProfile;
use crate::progress::{Progress, Silent, Step};
use crate::provision::{self, Wanted};
use crate::trace;

/// Checks the health of the cluster. A resumed node in which something has to be changed goes back to
/// the steps that connect to it and configure it.
pub(super) fn run(start: &mut Start<'_>) -> Result<Flow> {
    match start.nodes[0].identity_sent {
        true => check_all_resumed(start),
        false => check_first(start),
    }
}

/// Checks the first node, and the cluster through its API: its own, not that of another control plane.
fn check_first(start: &mut Start<'_>) -> Result<Flow> {
    let api = start
        .cluster
        .api_of(start.env.backend, start.profile_of(0))?;
    let plan = start.plan(0)?;
    let profile = start.profile_of(0).clone();
    let deadline = Instant::now() + start.limit(HEALTH_LIMIT);
    let addons = addons::enabled(&start.cluster.profile, &start.cluster.dir)?;
    let progress = start.env.progress;
    let alone = start.nodes.len() == 1;
    // The one with the controllers waits until its API has looked at each role, while those of other control planes
    // work.
    let several = start.cluster.profile.has_several_control_planes();
    let controllers = &provision::CONTROLLERS[usize::from(several)..];
    let node = &mut start.nodes[0];
    let boots = node.booted.map(|booted| (profile.name.clone(), booted));
    let mut rollouts = alone.then(|| Rollouts::of(&addons).since(boots.into_iter().collect()));
    let mut waiting = Waiting {
        api: &api,
        remote: match &mut node.session {
            Some(session) => session.as_mut(),
            None => return Ok(Flow::BackTo(CONNECT)),
        },
        units: &plan.units,
        watcher: &mut node.watcher,
        deadline,
        without_network: start.cluster.profile.lacks_network(),
        cancel: None,
    };
    start.node_version = check(
        &mut waiting,
        &profile,
        node.late_started,
        controllers,
        rollouts.as_mut(),
        progress,
        &mut start.timing,
    )?;
    verify(start)?;
    start.stage("verify");
    Ok(Flow::Next)
}

fn verify(start: &mut Start<'_>) -> Result<()> {
    let step = start.env.progress.step("Verify the processes");
    let role = start.profile_of(0).role;
    provision::verify(start.nodes[0].session()?, role)?;
    step.done(format!("{} run", provision::processes(role).len()));
    Ok(())
}

/// Waits until the API, the node, the controllers and the add-ons, if given, are ready; returns the
/// kubelet's version. `controllers` are those that are asked for their health. Add-ons have pods on all
/// nodes, so that where there are workers these come first.
fn check(
    waiting: &mut Waiting<'_, '_>,
    profile: &NodeProfile,
    late_started: bool,
    controllers: &[&str],
    rollouts: Option<&mut Rollouts>,
    progress: &dyn Progress,
    timing: &mut Stopwatch,
) -> Result<String> {
    let step = progress.step("Wait for the API to be ready");
    if !late_started {
        waiting.api("has not created its RBAC roles", &step, |api| {
            Ok(api.nearly_ready()?.then_some(()))
        })?;
        provision::start_all(waiting.remote)?;
    }
    waiting.api("is not ready", &step, |api| api.ready().map(Some))?;
    // A copy of a cluster got this certificate a moment ago.
    let what = "does not accept the administrator's certificate";
    waiting.api(what, &step, |api| {
        Ok(api.get("/version")?.is_ok().then_some(()))
    })?;
    step.done("");
    timing.end("ready");
    let step = progress.step("Wait for the node");
    let node = waiting.node_ready(profile, &step)?;
    let has_network = node.ready;
    step.done(if has_network {
        "Ready"
    } else {
        "runs without a network of pods"
    });
    timing.end("node");
    let step = progress.step("Wait for the controllers");
    waiting.controllers(controllers, &step)?;
    step.done("pods are admitted");
    timing.end("controllers");
    if let Some(rollouts) = rollouts.filter(|_| has_network) {
        let step = progress.step("Wait for the add-ons");
        waiting.addons(rollouts, &step)?;
        step.done("ready");
        timing.end("rollouts");
    }
    Ok(node.kubelet_version)
}

/// Checks the first node, and the others that resumed with it, at the same time.
fn check_all_resumed(start: &mut Start<'_>) -> Result<Flow> {
    let others = 1..start.nodes.len();
    let resumed: Vec<usize> = others.filter(|n| start.nodes[*n].identity_sent).collect();
    let joins = Joins::prepare(start, &resumed)?;
    let mut others = start.nodes.split_off(1);
    let (flow, joined) = std::thread::scope(|scope| {
        let joined = scope.spawn(|| joins.run(&mut others));
        let flow = check_resumed(start);
        // Nodes beside a first one that is not as it should be need not be waited for.
        let good = matches!(flow, Ok(Flow::Next));
        joins.cancel.store(!good, Ordering::Relaxed);
        (flow, joined.join().unwrap_or_default())
    });
    start.nodes.append(&mut others);
    let flow = flow?;
    // Those that failed are connected to and compared, now that the first node is healthy; all of them where
    // that node was not as it should be.
    let failed = joins::record(start, joined)?;
    let again = failed.into_iter().map(|(index, _)| index);
    let again: Vec<usize> = match flow {
        Flow::Next => again.collect(),
        Flow::BackTo(_) => (1..start.nodes.len()).collect(),
    };
    for index in again {
        start.nodes[index].identity_sent = false;
        start.nodes[index].joined = false;
    }
    Ok(flow)
}

/// Checks a resumed node through the API and over SSH at the same time.
fn check_resumed(start: &mut Start<'_>) -> Result<Flow> {
    let wanted = start.plan(0)?;
    let limit = start.limit(HEALTH_LIMIT);
    let connecting = &Connecting {
        env: &start.env,
        cluster: &start.cluster,
        node: start.profile_of(0),
        pki: start.known_pki()?,
    };
    let watcher = &start.nodes[0].watcher;
    let (mut ssh_watcher, mut api_watcher) = (watcher.another(), watcher.another());
    // A node with other certificates than it should have may never answer as it should.
    let cancel = &AtomicBool::new(false);
    let (version, changed) = std::thread::scope(|scope| {
        let over_ssh =
            scope.spawn(|| check_files(connecting, &wanted, &mut ssh_watcher, limit, cancel));
        let version = check_api(connecting, &wanted, &mut api_watcher, limit, cancel);
        let changed = over_ssh
            .join()
            .unwrap_or_else(|_| Err(Error::internal("checking the node ended in a panic")));
        (version, changed)
    });
    start.stage("health");
    // A fault in the node may be the reason for the API's answers, so it comes first.
    if !changed?.is_empty() {
        start.nodes[0].identity_sent = false;
        return Ok(Flow::BackTo(CONNECT));
    }
    start.node_version = version?;
    // What comes next may take longer than any boot is silent for, and this node does not boot.
    start.nodes[0].watcher.reached();
    Ok(Flow::Next)
}

/// Compares the files of a resumed node over SSH, and cancels the other check if it finds something.
fn check_files(
    connecting: &Connecting<'_>,
    wanted: &Wanted,
    watcher: &mut Watcher<'_>,
    limit: Duration,
    cancel: &AtomicBool,
) -> Result<Vec<String>> {
    let _span = trace::span("check the node over SSH");
    let step = connecting.env.progress.step("Check the node");
    let changed = compare(connecting, wanted, watcher, &step, limit);
    let good = changed.as_ref().is_ok_and(Vec::is_empty);
    cancel.store(!good, Ordering::Relaxed);
    match &changed {
        Ok(changed) if changed.is_empty() => step.done("as it should be"),
        Ok(_) => step.skipped("configuration drift found"),
        Err(_) => {}
    }
    changed
}

/// Runs the checks of every start on a resumed node; returns the kubelet's version.
fn check_api(
    connecting: &Connecting<'_>,
    wanted: &Wanted,
    watcher: &mut Watcher<'_>,
    limit: Duration,
    cancel: &AtomicBool,
) -> Result<String> {
    let (backend, cluster) = (connecting.env.backend, connecting.cluster);
    let addons: Vec<Addon> = addons::enabled(&cluster.profile, &cluster.dir)?;
    let mut remote = OnDemand::new(backend, cluster.target_of(connecting.node)?, limit);
    // It does not boot: a node with nothing to do rests, and writes nothing to its console.
    watcher.reached();
    let mut waiting = Waiting {
        api: &cluster.api_of(backend, connecting.node)?,
        remote: &mut remote,
        units: &wanted.units,
        watcher,
        deadline: Instant::now() + limit,
        without_network: cluster.profile.lacks_network(),
        cancel: Some(cancel),
    };
    let step = connecting.env.progress.step("Check the API");
    let alone = cluster.profile.nodes.len() == 1;
    let mut rollouts = alone.then(|| Rollouts::of(&addons));
    let mut timing = Stopwatch::start();
    let version = check(
        &mut waiting,
        connecting.node,
        true,
        // They were healthy when it was saved.
        &[],
        rollouts.as_mut(),
        &Silent,
        &mut timing,
    );
    match &version {
        Ok(_) => step.done("Ready"),
        Err(_) if cancel.load(Ordering::Relaxed) => step.skipped("will be checked again"),
        Err(_) => {}
    }
    version
}

/// Compares the files and processes of a node with the plan; returns the files that have to be changed.
fn compare(
    connecting: &Connecting<'_>,
    wanted: &Wanted,
    watcher: &mut Watcher<'_>,
    step: &Step,
    limit: Duration,
) -> Result<Vec<String>> {
    let role = connecting.node.role;
    let mut session = connecting.connect_with_identity(watcher, step, limit)?;
    let span = trace::span("compare the files");
    let changed = session.changed(&wanted.files, &wanted.optional)?;
    drop(span);
    if changed.is_empty() {
        provision::verify(session.as_mut(), role)?;
    }
    let paths = changed.into_iter().map(|i| wanted.files[i].path.clone());
    Ok(paths.collect())
}
