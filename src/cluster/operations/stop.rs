//! `kubby stop`: ending pods as they ask for it, shutting nodes down, and powering off machines that do not.

use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::cluster::machine::Machine;
use crate::cluster::machine::host::Host;
use crate::cluster::operations::ending::{PODS_LIMIT, end_pods};
use crate::cluster::saved::{garbage, suspend};
use crate::endpoint::Endpoint;
use crate::error::Result;
use crate::fsutil;
use crate::hypervisor::{self, Domain, State};
use crate::name::ProfileName;
use crate::parallel;
use crate::profile::NodeProfile;
use crate::progress::Step;

/// The limit for a node to shut down, times the acceleration's factor: databases in it need time to
/// write what they hold.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(30);

/// The time that a node has for its shutdown even when its pods have taken all that the user gave.
const LEAST_LIMIT: Duration = Duration::from_secs(1);

/// Stops a cluster; its data stays. Pods get the time that they ask for, then the nodes are shut down.
/// Powers it off after `timeout`, or with `force` at once. Returns whether it was running or suspended.
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
    for (node, machine) in cluster.profile.nodes.iter().zip(&machines) {
        let domain = machine.find()?;
        found.extend(domain.map(|domain| Stopping {
            node,
            machine,
            domain,
        }));
    }
    let active = found.iter().filter(|one| one.domain.state.is_active());
    let active: Vec<_> = active.collect();
    if active.is_empty() {
        Endpoint::of(&cluster.dir).stop()?;
    }
    match found.first() {
        _ if !active.is_empty() => {
            let how = HowToStop { force, timeout };
            let note = stop_machines(env, &cluster, &active, how, &step)?;
            step.done(note);
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

/// A machine that is to be stopped, with its node.
pub(crate) struct Stopping<'a> {
    pub(crate) node: &'a NodeProfile,
    pub(crate) machine: &'a Machine<'a>,
    pub(crate) domain: Domain,
}

/// The wishes about a stop.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HowToStop {
    /// Machines are powered off at once.
    pub(crate) force: bool,
    /// The time after which they are.
    pub(crate) timeout: Option<Duration>,
}

impl Stopping<'_> {
    /// Returns whether the machine reacts to the power button: a paused one does not, nor does one that was
    /// half loaded.
    fn hears(&self) -> Result<bool> {
        Ok(self.domain.state != State::Paused && !self.machine.is_half_loaded()?)
    }
}

/// Ends the pods on machines and then the machines, all at the same time; returns a note for the user.
///
/// # Errors
/// [`crate::error::Kind::Hypervisor`] when libvirt fails.
pub(crate) fn stop_machines(
    env: &Env<'_>,
    cluster: &Cluster,
    machines: &[&Stopping<'_>],
    how: HowToStop,
    step: &Step,
) -> Result<String> {
    let began = Instant::now();
    let mut notes = Vec::new();
    let mut all = Vec::new();
    for one in machines {
        all.push((one, how.force || !one.hears()?));
    }
    let hearing = all.iter().filter(|(_, at_once)| !at_once);
    let hearing: Vec<&NodeProfile> = hearing.map(|(one, _)| one.node).collect();
    if !hearing.is_empty() {
        let limit = how.timeout.unwrap_or(PODS_LIMIT);
        notes.push(end_pods(env, cluster, &hearing, limit, step)?);
        step.detail("shutting down");
    }
    if machines.len() == cluster.profile.nodes.len() {
        Endpoint::of(&cluster.dir).stop()?;
    }
    let limit = match how.timeout {
        Some(timeout) => timeout.saturating_sub(began.elapsed()).max(LEAST_LIMIT),
        None => cluster.deadline(SHUTDOWN_LIMIT),
    };
    let stop = |(one, at_once): &(&&Stopping<'_>, bool)| {
        let note = stop_machine(env, one, *at_once, limit)?;
        Ok(match note.is_empty() || machines.len() == 1 {
            true => note,
            false => format!("{}: {note}", one.domain.name),
        })
    };
    let stopped = parallel::each(all.iter(), "stopping a machine", stop);
    notes.extend(stopped.into_iter().collect::<Result<Vec<_>>>()?);
    notes.retain(|note| !note.is_empty());
    Ok(notes.join("; "))
}

/// Ends a machine; returns a note for the user.
fn stop_machine(
    env: &Env<'_>,
    stopping: &Stopping<'_>,
    at_once: bool,
    limit: Duration,
) -> Result<String> {
    let Stopping {
        machine, domain, ..
    } = stopping;
    let libvirt = machine.host.libvirt();
    let mapped = libvirt.mapped_memory(&domain.name)?.is_some();
    let note = if at_once {
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
