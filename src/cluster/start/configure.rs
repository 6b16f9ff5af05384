//! The step that brings a node's files and units to what the plan wants.

use std::time::{Duration, Instant};

use crate::cluster::start::addon_images::Loading;
use crate::cluster::start::context::{Flow, HEALTH_LIMIT, Origin, Start};
use crate::error::Result;
use crate::interrupt;
use crate::provision::{self, Wanted};

/// The interval at which systemd is asked whether restarts have ended.
const SETTLE_EVERY: Duration = Duration::from_secs(1);

/// Configures a node; a no-op for one that has its identity, which its health check looks at.
pub(super) fn run(start: &mut Start<'_>, node: usize) -> Result<Flow> {
    if start.nodes[node].identity_sent {
        return Ok(Flow::Next);
    }
    let wanted = start.plan(node)?;
    let step = start.env.progress.step("Configure Kubernetes");
    let applied = provision::apply(start.nodes[node].session()?, &wanted)?;
    match applied.changed.len() {
        0 => step.skipped("everything is as it should be"),
        files => step.done(format!("{files} files")),
    }
    start.changed.extend(applied.changed);
    start.stage("configure");
    if node == 0 && start.nodes[0].origin != Origin::Copied {
        start.loading = Loading::begin(vec![start.cluster.node()?], &start.archives);
    }
    settle(start, node, &wanted, &applied.restarted)?;
    let state = &mut start.nodes[node];
    if state.origin == Origin::Booted {
        state.booted = Some(provision::booted_at(state.session()?)?);
    }
    Ok(Flow::Next)
}

/// Waits until units that were restarted have done so: until then a process may answer that is about to
/// end. The health check finds a unit that cannot restart, and knows more to say about it.
fn settle(start: &mut Start<'_>, node: usize, wanted: &Wanted, restarted: &[String]) -> Result<()> {
    if restarted.is_empty() {
        return Ok(());
    }
    let step = start
        .env
        .progress
        .step("Restart services whose configuration changed");
    let deadline = Instant::now() + start.limit(HEALTH_LIMIT);
    loop {
        let state = &mut start.nodes[node];
        let session = state.session()?;
        if provision::settled(session, restarted)? {
            step.done(restarted.join(", "));
            return Ok(());
        }
        let looping = provision::crash_looping(session, &wanted.units)?;
        if Instant::now() > deadline || looping.is_some() {
            step.skipped("not finished yet");
            return Ok(());
        }
        state.watcher.look()?;
        interrupt::sleep(SETTLE_EVERY)?;
    }
}
