//! Another attempt after a machine that died, or a copy of a template that turned out bad.

use crate::cluster::start::context::{Flow, MACHINES, Origin, Start};
use crate::cluster::start::template;
use crate::error::{Error, Result};

/// The number of boots in all for a machine that dies while it boots. Emulation loses one boot in some
/// hundreds, and on a busy host two in a row.
const BOOTS: u32 = 3;

/// Prepares another attempt after an error about the first node, and returns the step to continue with.
///
/// # Errors
/// The error itself if another attempt would not help.
pub(super) fn prepare(start: &mut Start<'_>, error: Error) -> Result<Flow> {
    if start.settled {
        return Err(error);
    }
    reset(start, 0, error)?;
    start.was_running = false;
    Ok(Flow::BackTo(MACHINES))
}

/// Prepares another start of another node's machine after an error about it.
///
/// # Errors
/// The error itself, with the node's name, if another attempt would not help.
pub(super) fn other(start: &mut Start<'_>, node: usize, error: Error) -> Result<()> {
    let name = start.profile_of(node).name.clone();
    reset(start, node, error).map_err(|e| e.about(&format!("the node `{name}`")))
}

/// Powers a machine off that has to be started again; one that is a copy will boot.
fn reset(start: &mut Start<'_>, node: usize, error: Error) -> Result<()> {
    let state = &start.nodes[node];
    if state.copy_of.is_some() {
        // Nothing of the user's is in a copy yet, so one that turns out bad can be discarded.
        return template::give_up(start, node, &error);
    }
    if error.is_of_dead_machine() && state.boots < BOOTS {
        let boots = state.boots + 1;
        start.env.progress.warn(&format!(
            "{error}; powering it off and on again: attempt {boots} of {BOOTS}",
        ));
        start.nodes[node].boots = boots;
        if start.nodes[node].origin != Origin::Booted {
            start.nodes[node].template = None;
        }
        start.nodes[node].machine.power_off()?;
    } else {
        return Err(error);
    }
    start.begin_again(node);
    Ok(())
}
