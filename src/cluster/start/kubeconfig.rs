//! The last step: it writes the context, and clears templates that proved good of suspicion.

use crate::cluster::context;
use crate::cluster::start::context::{Flow, Start};
use crate::error::Result;

/// Writes the context into the profile's own kubeconfig and the user's.
pub(super) fn run(start: &mut Start<'_>) -> Result<Flow> {
    let keep = start.options.keep_context;
    start.current_context = context::write(&start.env, &start.cluster, start.known_pki()?, keep)?;
    for template in start.nodes.iter().flat_map(|node| &node.copy_of) {
        template.clear_suspect()?;
    }
    warn_of_no_network(start);
    start.stage("context");
    Ok(Flow::Next)
}

/// Warns where no network plugin is installed yet.
fn warn_of_no_network(start: &Start<'_>) {
    if start.waits_for_network().unwrap_or(false) {
        start.env.progress.warn(
            "nothing gives pods a network yet: nodes are not Ready and pods wait until you install a network plugin, \
             such as by kubectl apply",
        );
    }
}
