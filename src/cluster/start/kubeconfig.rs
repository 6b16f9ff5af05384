//! The last step: it writes the context, and clears a template that proved good of suspicion.

use crate::cluster::context;
use crate::cluster::start::context::{Flow, Origin, Start};
use crate::error::Result;

/// Writes the context into the profile's own kubeconfig and the user's.
pub(super) fn run(start: &mut Start<'_>) -> Result<Flow> {
    let keep = start.options.keep_context;
    start.current_context = context::write(&start.env, &start.cluster, start.known_pki()?, keep)?;
    if start.nodes.iter().any(|node| node.origin == Origin::Copied)
        && let Some(template) = &start.template
    {
        template.clear_suspect()?;
    }
    start.stage("context");
    Ok(Flow::Next)
}
