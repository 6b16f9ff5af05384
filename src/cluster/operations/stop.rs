//! `kubby stop`: shutting a node down, and powering its machine off if it does not.

use std::time::Duration;

use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::cluster::machine::Machine;
use crate::cluster::machine::host::Host;
use crate::cluster::saved::{garbage, suspend};
use crate::endpoint::Endpoint;
use crate::error::Result;
use crate::fsutil;
use crate::hypervisor::{self, Domain, State};
use crate::name::ProfileName;
use crate::parallel;

/// The limit for a node to shut down, times the acceleration's factor: databases in it need time to
/// write what they hold.
pub(crate) const SHUTDOWN_LIMIT: Duration = Duration::from_secs(30);

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
    let machines = Machine::all(&host, &cluster.profile)?;
    let step = env.progress.step(&format!("Stop the cluster `{name}`"));
    let mut found = Vec::new();
    for machine in &machines {
        found.extend(machine.find()?.map(|domain| (machine, domain)));
    }
    let active = found.iter().filter(|(_, domain)| domain.state.is_active());
    let active: Vec<_> = active.collect();
    Endpoint::of(&cluster.dir).stop()?;
    match found.first() {
        _ if !active.is_empty() => {
            let limit = timeout.unwrap_or_else(|| cluster.deadline(SHUTDOWN_LIMIT));
            step.done(stop_machines(env, &active, force, limit)?);
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

/// Ends machines at the same time; returns a note for the user.
fn stop_machines(
    env: &Env<'_>,
    machines: &[&(&Machine<'_>, Domain)],
    force: bool,
    limit: Duration,
) -> Result<String> {
    if let [(machine, domain)] = machines {
        return stop_machine(env, machine, domain, force, limit);
    }
    let stop = |(machine, domain): &'_ (&Machine<'_>, Domain)| {
        let note = stop_machine(env, machine, domain, force, limit)?;
        Ok(match note.is_empty() {
            true => note,
            false => format!("{}: {note}", domain.name),
        })
    };
    let notes = parallel::each(machines.iter().copied(), "stopping a machine", stop);
    let notes: Vec<String> = notes.into_iter().collect::<Result<_>>()?;
    let notes: Vec<String> = notes.into_iter().filter(|note| !note.is_empty()).collect();
    Ok(notes.join("; "))
}

/// Ends a machine; returns a note for the user.
pub(crate) fn stop_machine(
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
