//! `kubby stop`: shutting a node down, and powering its machine off if it does not.

use std::time::Duration;

use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::cluster::machine::Machine;
use crate::cluster::machine::host::Host;
use crate::cluster::saved::{garbage, suspend};
use crate::error::Result;
use crate::fsutil;
use crate::hypervisor::{self, Domain, State};
use crate::name::ProfileName;

/// The limit for a node to shut down, times the acceleration's factor: databases in it need time to
/// write what they hold.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(30);

/// Stops a cluster; its data stays. Powers it off after `timeout`, or with `force` at once. Returns
/// whether it was running or suspended.
///
/// # Errors
/// [`crate::error::Kind::State`] if the cluster does not exist or its domain is another's,
/// [`crate::error::Kind::Hypervisor`] when libvirt fails.
pub(crate) fn stop(
    env: &Env<'_>,
    name: &ProfileName,
    force: bool,
    timeout: Option<Duration>,
) -> Result<bool> {
    let (cluster, _lock) = Cluster::open_locked(env, name)?;
    let host = Host::open(env, &cluster.profile.connect)?;
    let machine = Machine::of(&host, &cluster.profile)?;
    let step = env.progress.step(&format!("Stop the cluster `{name}`"));
    match machine.find()? {
        Some(domain) if domain.state.is_active() => {
            let limit = timeout.unwrap_or_else(|| cluster.deadline(SHUTDOWN_LIMIT));
            step.done(stop_machine(env, &machine, &domain, force, limit)?);
            Ok(true)
        }
        _ if suspend::is_suspended(&cluster) => {
            if !force {
                step.skipped("suspended; --force discards the saved memory");
                return Ok(false);
            }
            fsutil::remove_all(&cluster.dir.suspended())?;
            let _shared = env.lock_shared()?;
            garbage::sweep(&host, None)?;
            step.done("its saved memory is discarded");
            Ok(true)
        }
        Some(_) => {
            step.skipped("it is stopped already");
            Ok(false)
        }
        None => {
            step.skipped("it has no virtual machine");
            Ok(false)
        }
    }
}

/// Ends a machine; returns a note for the user.
fn stop_machine(
    env: &Env<'_>,
    machine: &Machine<'_>,
    domain: &Domain,
    force: bool,
    limit: Duration,
) -> Result<String> {
    let libvirt = machine.host.libvirt();
    // A paused machine does not react to the power button, nor does one that was half loaded.
    let deaf = domain.state == State::Paused || machine.is_half_loaded()?;
    let mapped = libvirt.mapped_memory(&domain.name)?.is_some();
    let note = if force || deaf {
        machine.power_off()?;
        "powered off".to_owned()
    } else if hypervisor::shut_down(libvirt, &domain.name, limit)? {
        String::new()
    } else {
        machine.power_off()?;
        format!(
            "powered off, because it was still running after {} s",
            limit.as_secs()
        )
    };
    if mapped {
        // The next run has memory of its own, so this one's may not be needed any more.
        let _shared = env.lock_shared()?;
        garbage::sweep(machine.host, None)?;
    }
    Ok(note)
}
