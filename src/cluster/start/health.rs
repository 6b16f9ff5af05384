//! The step that checks the cluster's health: the same checks for a node that booted and for one that
//! resumed. In a resumed node nothing has to start, so its files are compared over SSH at the same time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::addon::{Addon, Rollouts};
use crate::cluster::addons;
use crate::cluster::env::Backend;
use crate::cluster::machine::watch::Watcher;
use crate::cluster::start::connect::Connecting;
use crate::cluster::start::context::{CONNECT, Flow, HEALTH_LIMIT, Start};
use crate::cluster::start::timing::Stopwatch;
use crate::cluster::start::wait::Waiting;
use crate::error::{Error, Result};
use crate::progress::{Progress, Silent, Step};
use crate::provision::{self, Wanted};
use crate::remote::{Output, Remote, Target};
use crate::trace;

/// Checks the health of the cluster. A resumed node in which something has to be changed goes back to
/// the steps that connect to it and configure it.
pub(super) fn run(start: &mut Start<'_>) -> Result<Flow> {
    if start.nodes[0].identity_sent {
        return check_resumed(start);
    }
    let api = start.api()?;
    let plan = start.plan()?;
    let deadline = Instant::now() + start.limit(HEALTH_LIMIT);
    let addons = addons::enabled(&start.cluster.profile, &start.cluster.dir)?;
    let progress = start.env.progress;
    let node = &mut start.nodes[0];
    let mut rollouts = Rollouts::of(&addons).since(node.booted);
    let mut waiting = Waiting {
        api: &api,
        remote: match &mut node.session {
            Some(session) => session.as_mut(),
            None => return Ok(Flow::BackTo(CONNECT)),
        },
        units: &plan.units,
        watcher: &mut node.watcher,
        deadline,
        cancel: None,
    };
    start.node_version = check(
        &mut waiting,
        node.late_started,
        &mut rollouts,
        progress,
        &mut start.timing,
    )?;
    let step = progress.step("Verify the processes");
    let role = start.cluster.profile.first().role;
    provision::verify(start.nodes[0].session()?, role)?;
    step.done(format!("{} run", provision::processes(role).len()));
    start.stage("verify");
    Ok(Flow::Next)
}

/// Waits until the API, the node, the controllers and the add-ons are ready; returns the kubelet's
/// version.
fn check(
    waiting: &mut Waiting<'_, '_>,
    late_started: bool,
    rollouts: &mut Rollouts,
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
    let node = waiting.node_ready(&step)?;
    step.done("Ready");
    timing.end("node");
    let step = progress.step("Wait for the controllers");
    waiting.takes_pods(&step)?;
    step.done("pods are admitted");
    timing.end("controllers");
    let step = progress.step("Wait for the add-ons");
    waiting.addons(rollouts, &step)?;
    step.done("ready");
    timing.end("rollouts");
    Ok(node.kubelet_version)
}

/// An SSH session that is opened when something is asked over it, which is only after a failed check, for
/// the journals.
struct OnDemand<'a> {
    backend: &'a dyn Backend,
    target: Target,
    limit: Duration,
    session: Option<Box<dyn Remote>>,
}

impl Remote for OnDemand<'_> {
    fn exec(&mut self, command: &str, stdin: &[u8], limit: Option<Duration>) -> Result<Output> {
        // A session that fails is replaced by a new one for the next command.
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.backend.connect(&self.target, self.limit)?,
        };
        let output = session.exec(command, stdin, limit)?;
        self.session = Some(session);
        Ok(output)
    }
}

/// Checks a resumed node through the API and over SSH at the same time.
fn check_resumed(start: &mut Start<'_>) -> Result<Flow> {
    let wanted = start.plan()?;
    let limit = start.limit(HEALTH_LIMIT);
    let connecting = &Connecting {
        env: &start.env,
        cluster: &start.cluster,
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
    let mut remote = OnDemand {
        backend,
        target: cluster.target()?,
        limit,
        session: None,
    };
    // It does not boot: a node with nothing to do rests, and writes nothing to its console.
    watcher.reached();
    let mut waiting = Waiting {
        api: &cluster.api_with(backend, connecting.pki)?,
        remote: &mut remote,
        units: &wanted.units,
        watcher,
        deadline: Instant::now() + limit,
        cancel: Some(cancel),
    };
    let step = connecting.env.progress.step("Check the API");
    let (mut rollouts, mut timing) = (Rollouts::of(&addons), Stopwatch::start());
    let version = check(&mut waiting, true, &mut rollouts, &Silent, &mut timing);
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
    let role = connecting.cluster.profile.first().role;
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
