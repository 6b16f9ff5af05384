//! Shutting a node down: politely, then by force.

use std::time::Duration;

use super::adopt::is_suspended;
use super::{Access, layers};
use crate::error::{Error, Kind, Result};
use crate::fsutil;
use crate::hypervisor::{self, Hypervisor, Libvirt, State};
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
    let _lock = super::lock(store, name, progress)?;
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
            layers::sweep(&hypervisor, store, &store.pool_name(), None)?;
            step.done("its saved memory is given up");
            return Ok(true);
        }
        Some(found) if !found.state.is_active() => {
            step.skipped("it is stopped already");
            return Ok(false);
        }
        // A paused machine cannot hear the power button.
        Some(found) if options.force || found.state == State::Paused => {
            hypervisor.destroy(&domain)?;
            step.done("power cut");
            return Ok(true);
        }
        Some(_) => {}
    }
    let limit = options
        .timeout
        .unwrap_or_else(|| access.deadline(SHUTDOWN_LIMIT));
    if hypervisor::shut_down(&hypervisor, &domain, limit)? {
        step.done("");
    } else {
        hypervisor.destroy(&domain)?;
        step.done(format!(
            "power cut, since it was not down after {} s",
            limit.as_secs()
        ));
    }
    Ok(true)
}
