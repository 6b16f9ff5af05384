//! The ports of a machine that is about to start.

use crate::cluster::machine::ports;
use crate::cluster::start::context::Start;
use crate::error::Result;

/// Replaces the ports that other programs have taken since the last start, and saves the profile.
pub(super) fn replace_taken(start: &mut Start<'_>) -> Result<()> {
    // Under one lock until it is saved: two starts never choose the same free port.
    let _shared = start.env.lock_shared()?;
    let asked = start.options.cluster.ports;
    let replaced = ports::replace_taken(start.env.store, &mut start.cluster.profile, asked)?;
    for (port, new) in &replaced {
        start.env.progress.warn(&format!(
            "port {port} is taken by another program; using {new} instead"
        ));
    }
    if !replaced.is_empty() {
        start.cluster.save()?;
    }
    Ok(())
}
