//! `kubby node disconnect` and `connect`: faults of the links between nodes, for those who test what
//! survives them.

use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::cluster::machine::Machine;
use crate::cluster::machine::host::Host;
use crate::cluster::node::CONNECT_LIMIT;
use crate::error::{Error, Result};
use crate::hypervisor::State;
use crate::name::ProfileName;
use crate::network::NodeNetwork;
use crate::provision::{Cut, Line};

/// Cuts a node off from the nodes with these names, or from all others. It stays so until
/// [`connect`] or the next start.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) in a cluster of one node, [`Kind::State`](crate::error::Kind::State) for a node that does not exist or
/// run, [`Kind::NodeUnreachable`](crate::error::Kind::NodeUnreachable) when it does not answer.
pub(crate) fn disconnect(
    env: &Env<'_>,
    name: &ProfileName,
    node: &str,
    from: &[String],
) -> Result<()> {
    let (cluster, _lock) = Cluster::open_locked(env, name)?;
    let others = from.iter().map(|other| other_node(&cluster, node, other));
    let others: Vec<NodeNetwork> = others.collect::<Result<_>>()?;
    let cut = match others.is_empty() {
        true => Cut::All,
        false => Cut::From(others),
    };
    let line = Line {
        cut,
        loss: 0.0,
        delay: 0,
    };
    let step = env.progress.step(&format!("Cut off the node {node}"));
    set(env, &cluster, node, &line)?;
    step.done(match from.is_empty() {
        true => "from all others".to_owned(),
        false => format!("from {}", from.join(", ")),
    });
    Ok(())
}

/// Connects a node to all others again; `loss` percent of the packets that it sends them are lost, and
/// the rest takes `delay` milliseconds longer.
///
/// # Errors
/// As [`disconnect`].
pub(crate) fn connect(
    env: &Env<'_>,
    name: &ProfileName,
    node: &str,
    loss: f32,
    delay: u32,
) -> Result<()> {
    let (cluster, _lock) = Cluster::open_locked(env, name)?;
    let step = env.progress.step(&format!("Connect the node {node}"));
    let line = Line {
        cut: Cut::None,
        loss,
        delay,
    };
    set(env, &cluster, node, &line)?;
    step.done("");
    Ok(())
}

fn other_node(cluster: &Cluster, node: &str, other: &str) -> Result<NodeNetwork> {
    if other == node {
        return Err(Error::usage(format!(
            "`{node}` cannot be cut off from itself"
        )));
    }
    Ok(cluster.find_node(Some(other))?.addresses())
}

fn set(env: &Env<'_>, cluster: &Cluster, node: &str, line: &Line) -> Result<()> {
    let profile = cluster.find_node(Some(node))?;
    let flag = cluster.flag();
    if cluster.profile.nodes.len() == 1 {
        let message = format!("`{node}` is the only node of the cluster");
        return Err(Error::usage(message).with_hint(format!("add one: kubby node add{flag}")));
    }
    let host = Host::open(env, &cluster.profile.connect)?;
    let machine = Machine::of_node(&host, &cluster.profile, profile)?;
    if machine.state()? != State::Running {
        let message = format!("the node `{node}` is not running: its links cannot be changed");
        return Err(Error::state(message).with_hint(format!("kubby node start{flag} {node}")));
    }
    let target = cluster.target_of(profile)?;
    let limit = cluster.deadline(CONNECT_LIMIT);
    let mut session = env.backend.connect(&target, limit)?;
    session.push(&line.files())?;
    session
        .run(&line.command())?
        .require("changing the links")
        .map(drop)
}
