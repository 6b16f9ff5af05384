//! `kubby logs --console`: the serial console of a cluster's machine.

use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::cluster::machine::Machine;
use crate::cluster::machine::host::Host;
use crate::error::Result;
use crate::hypervisor;
use crate::profile::NodeProfile;

/// Returns the last `lines` that the machine has written since its last start, without control
/// sequences, which the reader's terminal would obey.
///
/// # Errors
/// [`crate::error::Kind::Hypervisor`] when libvirt cannot be asked.
pub(crate) fn console(
    env: &Env<'_>,
    cluster: &Cluster,
    node: &NodeProfile,
    lines: usize,
) -> Result<String> {
    let host = Host::open(env, &cluster.profile.connect)?;
    let text = Machine::of_node(&host, &cluster.profile, node)?.console()?;
    Ok(hypervisor::console::tail(&text, lines))
}
