//! Shutting a node down: politely, then by force.

use std::time::Duration;

use crate::cluster::Access;
use crate::cluster::saved::garbage;
use crate::cluster::saved::restore::is_suspended;
use crate::error::{Error, Kind, Result};
use crate::fsutil;
use crate::hypervisor::{self, Hypervisor, Libvirt, Saving, State};
use crate::profile::ProfileName;
use crate::progress::Progress;
use crate::store::Store;

/// How long a node may take to shut down before its power is cut, times the acceleration's
/// factor: databases in it get the time to write what they hold.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(30);

/// How `stop` goes about it.
#[derive(Debug, Clone, Copy, Default)]
pub struct StopOptions {
    /// Cut the power at once.
    pub force: bool,
    /// Cut the power after so long.
    pub timeout: Option<Duration>,
}

/// Stops a cluster; its data stays. Returns whether it was running.
///
/// # Errors
/// [`Kind::State`] where there is no such cluster, [`Kind::Hypervisor`] when libvirt fails.
pub fn stop(
    store: &Store,
    name: &ProfileName,
    options: StopOptions,
    progress: &dyn Progress,
) -> Result<bool> {
    let _lock = crate::cluster::lock(store, name, progress)?;
    let access = Access::open(store, name)?;
    let hypervisor = Libvirt::open(&access.profile.connect)?;
    let domain = name.resource_name();
    let step = progress.step(&format!("Stop the node of `{name}`"));
    match hypervisor.find(&domain)? {
        None => {
            step.skipped("it has no virtual machine");
            return Ok(false);
        }
        Some(found) if found.uuid != access.profile.uuid()? => {
            return Err(Error::new(
                Kind::State,
                format!(
                    "the domain `{domain}` in libvirt is not kubby's: its UUID is {}",
                    found.uuid
                ),
            ));
        }
        Some(found) if !found.state.is_active() && is_suspended(&access) => {
            if !options.force {
                step.skipped("it is suspended; --force gives its memory up");
                return Ok(false);
            }
            fsutil::remove_all(&access.dir.suspended())?;
            let _shared = store.lock_shared(|| {})?;
            garbage::sweep(&hypervisor, store, &store.pool_name(), None)?;
            step.done("its saved memory is given up");
            return Ok(true);
        }
        Some(found) if !found.state.is_active() => {
            step.skipped("it is stopped already");
            return Ok(false);
        }
        Some(found) => {
            // A paused machine cannot hear the power button, nor can one that was killed half
            // loaded.
            let deaf = found.state == State::Paused || hypervisor.is_half_loaded(&domain)?;
            let mapped = hypervisor.mapped_memory(&domain)?.is_some();
            let limit = options
                .timeout
                .unwrap_or_else(|| access.deadline(SHUTDOWN_LIMIT));
            let limit = (!options.force && !deaf).then_some(limit);
            let how = end(&hypervisor, &domain, limit)?;
            if mapped {
                // The next run has memory of its own, so this one's may be needed no more.
                let _shared = store.lock_shared(|| {})?;
                garbage::sweep(&hypervisor, store, &store.pool_name(), None)?;
            }
            step.done(how);
        }
    }
    Ok(true)
}

/// Ends a machine, politely where it gets time for that; returns what the user is told.
fn end(hypervisor: &Libvirt, domain: &str, limit: Option<Duration>) -> Result<String> {
    let Some(limit) = limit else {
        hypervisor.destroy(domain)?;
        return Ok("power cut".into());
    };
    if hypervisor::shut_down(hypervisor, domain, limit)? {
        return Ok(String::new());
    }
    hypervisor.destroy(domain)?;
    let seconds = limit.as_secs();
    Ok(format!(
        "power cut, since it was not down after {seconds} s"
    ))
}
