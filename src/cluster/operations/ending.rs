//! The part of `kubby stop` in which pods end: with their hooks, and the time that they ask for.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::cluster::node::CONNECT_LIMIT;
use crate::error::{Kind, Result};
use crate::parallel;
use crate::profile::NodeProfile;
use crate::progress::Step;
use crate::provision::{self, Ended, EndingPod};

/// The longest that pods get unless the user says otherwise. Some ask for an hour, in case that they need it.
pub(crate) const PODS_LIMIT: Duration = Duration::from_secs(120);

/// The time that commands in the node take beyond what pods ask for, times the acceleration's factor.
const MARGIN: Duration = Duration::from_secs(5);

/// Ends the pods of nodes that are about to be shut down, within `limit`. Returns a note for the user about those
/// that were cut off. A cluster whose API does not answer, and nodes that do not, are shut down without it.
///
/// # Errors
/// [`Kind::Interrupted`] on Ctrl-C.
pub(crate) fn end_pods(
    env: &Env<'_>,
    cluster: &Cluster,
    nodes: &[&NodeProfile],
    limit: Duration,
    step: &Step,
) -> Result<String> {
    let Some(list) = running_pods(env, cluster)? else {
        return Ok(String::new());
    };
    let nodes = nodes
        .iter()
        .map(|node| (*node, provision::ending_pods(&list, &node.name)));
    let nodes: Vec<_> = nodes.filter(|(_, pods)| !pods.is_empty()).collect();
    if nodes.is_empty() {
        return Ok(String::new());
    }
    let longest = nodes.iter().map(|(_, pods)| provision::longest_grace(pods));
    // Not less than the two seconds that each container has in any case.
    let limit = limit.min(
        longest
            .max()
            .unwrap_or_default()
            .max(Duration::from_secs(2))
            + cluster.deadline(MARGIN),
    );
    let count: usize = nodes.iter().map(|(_, pods)| pods.len()).sum();
    let ended = counting(step, count, limit, || {
        parallel::each(nodes.iter(), "ending pods", |(node, pods)| {
            end_on(env, cluster, node, pods, limit)
        })
    });
    let nodes = nodes.iter().map(|(node, _)| node.name.as_str());
    summary(env, nodes.zip(ended), limit)
}

/// Lists the pods that run; `None` where the API does not answer.
fn running_pods(env: &Env<'_>, cluster: &Cluster) -> Result<Option<Value>> {
    let list = cluster.api(env.backend).and_then(|api| {
        let answer = api.get("/api/v1/pods?fieldSelector=status.phase%3DRunning")?;
        answer.require_json("listing pods")
    });
    match list {
        Err(e) if e.kind() == Kind::Interrupted => Err(e),
        Err(e) => {
            env.progress.warn(&format!(
                "pods end without their preStop hooks, because the API does not answer: {e}"
            ));
            Ok(None)
        }
        Ok(list) => Ok(Some(list)),
    }
}

/// Warns of what went wrong on nodes; returns a note about the pods that were cut off.
fn summary<'a>(
    env: &Env<'_>,
    results: impl Iterator<Item = (&'a str, Result<Ended>)>,
    limit: Duration,
) -> Result<String> {
    let (mut all, mut warnings) = (Ended::default(), Vec::new());
    for (node, result) in results {
        match result {
            Err(e) if e.kind() == Kind::Interrupted => return Err(e),
            Err(e) => warnings.push(format!(
                "the pods of `{node}` end without their preStop hooks: {e}"
            )),
            Ok(ended) => {
                all.left.extend(ended.left);
                all.failed_hooks.extend(ended.failed_hooks);
            }
        }
    }
    if !all.failed_hooks.is_empty() {
        warnings.push(format!(
            "preStop hooks failed: {}",
            all.failed_hooks.join(", ")
        ));
    }
    warnings.iter().for_each(|text| env.progress.warn(text));
    Ok(match all.left.is_empty() {
        true => String::new(),
        false => format!(
            "cut off after {} s: {}",
            limit.as_secs(),
            all.left.join(", ")
        ),
    })
}

/// Ends the pods of one node.
fn end_on(
    env: &Env<'_>,
    cluster: &Cluster,
    node: &NodeProfile,
    pods: &[EndingPod],
    limit: Duration,
) -> Result<Ended> {
    let target = cluster.target_of(node)?;
    let mut remote = env
        .backend
        .connect(&target, cluster.deadline(CONNECT_LIMIT))?;
    let command = format!("timeout {} sh -s", limit.as_secs().max(1));
    let script = provision::end_pods_script(pods);
    let limit = limit + cluster.deadline(MARGIN);
    let output = remote.exec(&command, script.as_bytes(), Some(limit))?;
    Ok(provision::ended(pods, &output.text()))
}

/// Runs a job while the step counts the seconds.
fn counting<T: Send>(
    step: &Step,
    pods: usize,
    limit: Duration,
    job: impl FnOnce() -> T + Send,
) -> T {
    let (done, is_done) = mpsc::channel();
    let (sink, began) = (step.sink(), Instant::now());
    thread::scope(|scope| {
        scope.spawn(move || {
            let wait = || is_done.recv_timeout(Duration::from_secs(1));
            while wait() == Err::<(), _>(RecvTimeoutError::Timeout) {
                sink.detail(&format!(
                    "waiting for {pods} pods to end: {} s of at most {}",
                    began.elapsed().as_secs(),
                    limit.as_secs()
                ));
            }
        });
        let result = job();
        drop(done);
        result
    })
}
