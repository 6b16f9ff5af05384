//! The names of a machine's objects in libvirt.

use crate::hypervisor::PortForward;
use crate::name::ProfileName;
use crate::network::{API_PORT, LINK_PORT, NODE_NAME, SSH_PORT};
use crate::profile::NodeProfile;

/// The names of one machine's objects in libvirt and of its files in the pool's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    /// The domain.
    pub(crate) domain: String,
    /// The volume with the node's first configuration and keys.
    pub(crate) seed: String,
    /// The serial console's log.
    pub(crate) console: String,
    /// The host's channel into the node; two pipes have names that begin so.
    pub(crate) channel: String,
}

impl Names {
    /// Returns the names of a cluster's first machine, which has the cluster's own.
    pub(crate) fn of(profile: &ProfileName) -> Self {
        Names::of_domain(profile.resource_name())
    }

    /// Returns the names of a node's machine.
    pub(crate) fn of_node(profile: &ProfileName, node: &NodeProfile) -> Self {
        Names::of_domain(domain(profile, &node.name))
    }

    /// Returns the names of the machine with this domain.
    pub(super) fn of_domain(domain: String) -> Self {
        Names {
            seed: format!("{domain}.seed.tar"),
            console: format!("{domain}.console.log"),
            channel: format!("{domain}.channel"),
            domain,
        }
    }
}

/// Returns a new name for a node's disk, which no other disk has: an earlier disk of the same node may
/// still exist, because templates, snapshots or forks build on it.
pub(crate) fn new_disk(profile: &ProfileName, node: &str) -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("{}.disk-{}.qcow2", domain(profile, node), &id[..12])
}

/// Returns the name of a node's domain. Those of further nodes contain a dot, which no profile's name
/// does, so that they are never another profile's.
fn domain(profile: &ProfileName, node: &str) -> String {
    match node {
        NODE_NAME => profile.resource_name(),
        name => format!("{}.{name}", profile.resource_name()),
    }
}

/// Returns the forwards from ports of the host to a node's SSH server, kube-apiserver and link.
pub(crate) fn own_forwards(node: &NodeProfile) -> Vec<PortForward> {
    let ports = node.ports;
    let ssh = PortForward::tcp(ports.ssh, SSH_PORT);
    let api = ports.api.map(|port| PortForward::tcp(port, API_PORT));
    let link = ports.link.map(|port| PortForward::udp(port, LINK_PORT));
    [Some(ssh), api, link].into_iter().flatten().collect()
}
