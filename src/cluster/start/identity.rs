//! The step that sends a resumed node its identity and the time, through the host's channel.

use crate::cluster::context;
use crate::cluster::saved::identity;
use crate::cluster::start::context::{Flow, Origin, Start};
use crate::error::Result;
use crate::parallel;

/// Sends the identity to nodes that resumed, at the same time; a node that booted has it from its seed.
pub(super) fn run(start: &mut Start<'_>) -> Result<Flow> {
    let nodes: Vec<usize> = (0..start.nodes.len()).collect();
    send(start, &nodes)?;
    if start.nodes[0].identity_sent {
        // Programs that wait for kubectl can begin: the rest only looks, and changes nothing.
        let keep = start.options.keep_context;
        context::write(&start.env, &start.cluster, start.known_pki()?, keep)?;
    }
    Ok(Flow::Next)
}

/// Sends the identity to those of these nodes that resumed.
///
/// # Errors
/// As [`identity::send`].
pub(super) fn send(start: &mut Start<'_>, nodes: &[usize]) -> Result<()> {
    let mut plans = Vec::new();
    for node in nodes.iter().copied() {
        let origin = start.nodes[node].origin;
        start.nodes[node].identity_sent = false;
        if matches!(origin, Origin::Resumed | Origin::Copied) {
            let machine = start.nodes[node].machine.clone();
            plans.push((node, machine, start.plan(node)?));
        }
    }
    let (cluster, pki) = (&start.cluster, start.known_pki_of(0).ok());
    let sent = parallel::each(&plans, "sending an identity", |(node, machine, wanted)| {
        identity::send(machine, cluster, &cluster.profile.nodes[*node], pki, wanted)
    });
    for ((node, ..), sent) in plans.iter().zip(sent) {
        start.nodes[*node].identity_sent = sent?;
    }
    start.stage("identity");
    Ok(())
}
