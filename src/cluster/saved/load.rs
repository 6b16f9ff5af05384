//! Starting a cluster's machines from a saved state instead of booting them.

use crate::cluster::Cluster;
use crate::cluster::machine::{Machine, domain};
use crate::cluster::saved::state::Saved;
use crate::error::{Error, Result};
use crate::hypervisor::{Acceleration, Incoming, PortForward};
use crate::profile::NodeProfile;
use crate::trace;

/// A machine that is loaded.
pub(crate) struct Part<'a> {
    pub(crate) machine: &'a Machine<'a>,
    pub(crate) node: &'a NodeProfile,
    pub(crate) saved: &'a Saved,
}

/// Starts machines from saved memory; their disks exist already. `consume` is called when everything is
/// loaded, before the first instruction runs.
///
/// # Errors
/// [`Kind::Hypervisor`](crate::error::Kind::Hypervisor) when libvirt or QEMU refuses, [`Kind::State`](crate::error::Kind::State) when there is no memory in a
/// saved state, and those of `consume`; all machines are off then.
pub(crate) fn start(
    parts: &[Part<'_>],
    cluster: &Cluster,
    acceleration: Acceleration,
    consume: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let run = || -> Result<()> {
        let loaded = parts
            .iter()
            .map(|part| prepare(part, cluster, acceleration));
        let forwards: Vec<_> = loaded.collect::<Result<_>>()?;
        let _span = trace::span("let the machines run");
        consume()?;
        for (part, forwards) in parts.iter().zip(&forwards) {
            part.machine.open_forwards(forwards)?;
        }
        for part in parts {
            let domain = &part.machine.names.domain;
            part.machine.host.libvirt().resume(domain)?;
        }
        Ok(())
    };
    let run = run();
    if run.is_err() {
        for part in parts {
            let _ = part.machine.power_off();
        }
    }
    run
}

/// Loads a machine, which is paused then; returns its forwards, which are not open yet.
fn prepare(
    part: &Part<'_>,
    cluster: &Cluster,
    acceleration: Acceleration,
) -> Result<Vec<PortForward>> {
    let Part {
        machine,
        node,
        saved,
    } = part;
    let host = machine.host;
    let memory = saved
        .memory
        .as_ref()
        .ok_or_else(|| Error::state("the saved state holds no memory"))?;
    let span = trace::span("define the domain");
    let spec = domain::define(machine, &cluster.profile, node, acceleration)?;
    drop(span);
    let [pages, devices] = saved
        .files(host.target())
        .map(|path| path.to_string_lossy().into_owned());
    let incoming = Incoming {
        memory: pages,
        offset: memory.offset,
        devices,
    };
    let _span = trace::span("load the saved state");
    host.libvirt().start_paused_from(&spec, &incoming)?;
    Ok(spec.forwards)
}
