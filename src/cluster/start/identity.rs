//! The step that sends a resumed node its identity and the time, through the host's channel.

use crate::cluster::context;
use crate::cluster::saved::identity;
use crate::cluster::start::context::{Flow, Origin, Start};
use crate::error::Result;

/// Sends the identity to a node that resumed; a node that booted has it from its seed.
pub(super) fn run(start: &mut Start<'_>, node: usize) -> Result<Flow> {
    start.pki()?;
    let resumed = matches!(start.nodes[node].origin, Origin::Resumed | Origin::Copied);
    let sent = resumed
        && identity::send(
            &start.nodes[node].machine,
            &start.cluster,
            start.known_pki()?,
        )?;
    start.nodes[node].identity_sent = sent;
    start.stage("identity");
    if sent {
        // Programs that wait for kubectl can begin: the rest only looks, and changes nothing.
        let keep = start.options.keep_context;
        context::write(&start.env, &start.cluster, start.known_pki()?, keep)?;
    }
    Ok(Flow::Next)
}
