//! The way of a worker's programs to kube-apiserver: HAProxy on the node's loopback, so that a worker needs no
//! control plane in particular.

use super::links;
use super::unit::Unit;
use super::wanted::{Inputs, Wanted, certificate_path, public, until_the_api_says};
use crate::balancer::{Balancer, READY};
use crate::network::{API_PORT, NodeNetwork};
use crate::pki::CertName;

const CONFIG: &str = "/etc/kubby/haproxy.cfg";

/// The program, as Debian has it.
pub(super) const PROGRAM: &str = "/usr/sbin/haproxy";

/// The unit, after which others begin that use the API.
pub(super) const UNIT: &str = "kubby-balancer.service";

pub(super) fn wanted(inputs: &Inputs<'_>) -> Wanted {
    let files = vec![public(CONFIG, config(inputs.control_planes))];
    let command = [PROGRAM, "-Ws", "-f", CONFIG].map(str::to_owned);
    let unit = Unit::service(
        "kubby-balancer",
        "Load balancer of the API servers",
        &command,
    )
    .line("Type", "notify")
    // What starts after the unit would ask in vain until then, and take the processors from machines that boot
    // beside it.
    .line("ExecStartPost", until_the_api_says(READY, 2))
    .line("TimeoutStartSec", "infinity")
    .line("KillMode", "mixed")
    .unhurried()
    .after(&[links::UNIT])
    .only_with(CONFIG)
    .reads([CONFIG.to_owned(), certificate_path(CertName::Ca)]);
    Wanted::unit(files, unit)
}

fn config(control_planes: &[NodeNetwork]) -> String {
    let servers = control_planes.iter();
    let servers = servers.map(|node| (node.name.clone(), format!("{}:{API_PORT}", node.ip)));
    Balancer {
        global: &[
            "user haproxy",
            "group haproxy",
            "log stderr format raw local0 notice",
        ],
        port: API_PORT,
        authority: &certificate_path(CertName::Ca),
        servers: servers.collect(),
    }
    .config()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;

    #[test]
    fn each_control_plane_is_asked_over_tls() {
        let network = Network::default();
        let text = config(&[network.first_node(), network.node("control-plane-2", 4)]);
        insta::assert_snapshot!(text);
    }
}
