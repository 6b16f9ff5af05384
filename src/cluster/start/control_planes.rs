//! The step that brings back the control planes beside the first, which has to have a majority of them before
//! it answers.

use crate::cluster::start::connect::Connecting;
use crate::cluster::start::context::{BOOT_LIMIT, Flow, Start};
use crate::cluster::start::{machines, retry};
use crate::error::{Error, Kind, Result};
use crate::parallel;
use crate::provision;
use crate::role::Role;

/// Connects to the control planes that were there before, and brings their files to what the plan wants: the
/// ports of links may be others than before, and links have no faults any more. New ones join later.
pub(super) fn run(start: &mut Start<'_>) -> Result<Flow> {
    loop {
        let failed = bring_back(start)?;
        let mut again = false;
        for (index, error) in failed {
            if error.is_of_dead_machine() {
                retry::other(start, index, error)?;
                machines::run_one(start, index)?;
                again = true;
            } else {
                // The majority may do without it; when it joins the cluster, there is another attempt.
                start.env.progress.warn(&error.to_string());
            }
        }
        if !again {
            return Ok(Flow::Next);
        }
    }
}

/// Connects to them at the same time; returns those that failed, with their errors.
fn bring_back(start: &mut Start<'_>) -> Result<Vec<(usize, Error)>> {
    let mut all = Vec::new();
    for index in 1..start.nodes.len() {
        let state = &start.nodes[index];
        let is_back = state.runs && !state.created && !state.identity_sent;
        let is_control_plane = start.profile_of(index).role == Role::ControlPlane;
        if is_back && is_control_plane && state.session.is_none() {
            all.push((index, start.plan(index)?));
        }
    }
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let step = start
        .env
        .progress
        .step("Connect to the other control planes");
    let limit = start.limit(BOOT_LIMIT);
    let (env, cluster) = (&start.env, &start.cluster);
    let states = start.nodes.iter_mut().enumerate();
    let states = states.filter_map(|(index, state)| {
        let (_, wanted) = all.iter().find(|(other, _)| *other == index)?;
        Some((index, state, wanted))
    });
    let what = "connecting to a control plane";
    let results = parallel::each(states, what, |(index, state, wanted)| {
        let pki = state.pki.as_ref();
        let connecting = Connecting {
            env,
            cluster,
            node: &cluster.profile.nodes[index],
            pki: pki.ok_or_else(|| Error::internal("there are no certificates"))?,
        };
        let mut session =
            connecting.connect_after(state.origin, &mut state.watcher, &step, limit)?;
        provision::apply(session.as_mut(), wanted)?;
        state.session = Some(session);
        Ok(())
    });
    let mut failed = Vec::new();
    for ((index, _), result) in all.iter().zip(results) {
        match result {
            Err(e) if e.kind() == Kind::Interrupted => return Err(e),
            Err(e) => failed.push((*index, e)),
            Ok(()) => {}
        }
    }
    step.done("");
    Ok(failed)
}
