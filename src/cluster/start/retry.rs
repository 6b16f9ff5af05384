//! Another attempt after a machine that died, or a copy of a template that turned out bad.

use crate::cluster::start::context::{Flow, MACHINES, Origin, Start};
use crate::cluster::start::template;
use crate::error::{Error, Result};

/// The number of boots in all for a machine that dies while it boots. Emulation loses one boot in some
/// hundreds, and on a busy host two in a row.
const BOOTS: u32 = 3;

/// Prepares another attempt after an error, and returns the step to continue with.
///
/// # Errors
/// The error itself if another attempt would not help.
pub(super) fn prepare(start: &mut Start<'_>, error: Error) -> Result<Flow> {
    let origin = start.nodes.iter().map(|node| node.origin);
    let copied = origin.clone().any(|origin| origin == Origin::Copied);
    if copied {
        // Nothing of the user's is in a copy yet, so one that turns out bad can be discarded.
        template::give_up(start, &error)?;
    } else if error.is_of_dead_machine() && start.boots < BOOTS {
        start.boots += 1;
        start.env.progress.warn(&format!(
            "{error}; powering it off and on again: attempt {} of {BOOTS}",
            start.boots
        ));
        if origin.clone().any(|origin| origin != Origin::Booted) {
            start.template = None;
        }
        for node in &start.nodes {
            node.machine.power_off()?;
        }
    } else {
        return Err(error);
    }
    for node in &mut start.nodes {
        node.origin = Origin::Booted;
        node.identity_sent = false;
        node.session = None;
        node.late_started = false;
    }
    start.forget_pki();
    start.was_running = false;
    Ok(Flow::BackTo(MACHINES))
}
