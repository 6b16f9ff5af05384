//! Starting a cluster's machine from a saved state instead of booting it.

use crate::cluster::Cluster;
use crate::cluster::machine::{Machine, domain};
use crate::cluster::saved::state::Saved;
use crate::error::{Error, Result};
use crate::hypervisor::{Acceleration, Incoming};
use crate::trace;

/// Starts the machine from saved memory; its disk exists already. `consume` is called when everything
/// is loaded, before the first instruction runs.
///
/// # Errors
/// [`Kind::Hypervisor`](crate::error::Kind::Hypervisor) when libvirt or QEMU refuses, [`Kind::State`](crate::error::Kind::State) when there is no memory in the
/// saved state, and those of `consume`; the machine is off then.
pub(crate) fn start(
    machine: &Machine<'_>,
    cluster: &Cluster,
    acceleration: Acceleration,
    saved: &Saved,
    consume: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let (host, libvirt) = (machine.host, machine.host.libvirt());
    let memory = saved
        .memory
        .as_ref()
        .ok_or_else(|| Error::state("the saved state holds no memory"))?;
    let span = trace::span("define the domain");
    let spec = domain::define(machine, &cluster.profile, acceleration)?;
    drop(span);
    let [pages, devices] = saved
        .files(host.target())
        .map(|path| path.to_string_lossy().into_owned());
    let incoming = Incoming {
        memory: pages,
        offset: memory.offset,
        devices,
    };
    let span = trace::span("load the saved state");
    libvirt.start_paused_from(&spec, &incoming)?;
    drop(span);
    let _span = trace::span("let the machine run");
    let run = consume()
        .and_then(|()| machine.open_forwards(&spec.forwards))
        .and_then(|()| libvirt.resume(&machine.names.domain));
    if run.is_err() {
        let _ = machine.power_off();
    }
    run.map(drop)
}
