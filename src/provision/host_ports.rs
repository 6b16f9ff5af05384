//! The ports of the host's loopback that the user has opened to the cluster: exceptions from the rules in front
//! of it.

use super::wanted::{Action, Inputs, Wanted, public};
use crate::error::Result;
use crate::host_port::{Callers, HostPort};
use crate::network::HOST_IN_NODE;
use crate::remote::Remote;

/// The rules; `nftables.conf` includes it.
const FIREWALL: &str = "/etc/kubby/nftables.d/host-ports.nft";

pub(super) fn wanted(inputs: &Inputs<'_>) -> Wanted {
    Wanted {
        files: vec![public(FIREWALL, rules(inputs.host_ports))],
        optional: vec![FIREWALL],
        actions: vec![Action::new(FIREWALL, RELOAD)],
        ..Wanted::default()
    }
}

/// The command that brings the rules into force; a node of an earlier version has no name for the host yet.
const RELOAD: &str = "{ grep -qsF host.kubby.internal /etc/hosts || \
    echo '10.0.2.2 host.kubby.internal' >> /etc/hosts; } && \
    systemctl reload-or-restart nftables.service";

/// Opens these ports in a node that runs, and closes all others; connections to `closed` end.
///
/// # Errors
/// [`Kind::NodeUnreachable`](crate::error::Kind::NodeUnreachable) when SSH fails, [`Kind::Unhealthy`](crate::error::Kind::Unhealthy) when the node does not take the rules.
pub(crate) fn open_host_ports(
    remote: &mut dyn Remote,
    ports: &[HostPort],
    closed: Option<&HostPort>,
) -> Result<()> {
    // One command: rules that are in the file and not in force would look right to the next start.
    let mut command = format!("set -eu\ninstall -D -m 644 /dev/stdin {FIREWALL}\n{RELOAD}\n");
    if let Some(closed) = closed {
        let (protocol, port) = (closed.protocol.name(), closed.port);
        // By where answers come from, since a Service may have led there. It fails where there are none.
        command.push_str(&format!(
            "conntrack -D -p {protocol} --reply-src {HOST_IN_NODE} --reply-port-src {port} >/dev/null 2>&1 || true\n"
        ));
    }
    remote
        .run_with_input(&command, rules(ports).as_bytes())?
        .require("changing the rules in front of the host's ports")
        .map(drop)
}

fn rules(ports: &[HostPort]) -> String {
    if ports.is_empty() {
        return String::new();
    }
    let mut text =
        "# Written by `kubby host-port add`; `kubby host-port remove` takes it back.\n".to_owned();
    for HostPort {
        port,
        protocol,
        callers,
    } in ports
    {
        let (chain, whose) = match callers {
            Callers::Pods => ("any_to_host", ""),
            // Pods' packets are forwarded, and have no user here.
            Callers::Api => ("node_to_host", "meta skuid 0 "),
        };
        text.push_str(&format!(
            "add rule inet kubby {chain} {whose}ip daddr {HOST_IN_NODE} {} dport {port} accept\n",
            protocol.name()
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::Protocol;

    #[test]
    fn the_host_has_its_name() {
        let line = format!("'{HOST_IN_NODE} {}'", crate::network::HOST_NAME);
        assert!(
            RELOAD.contains(&line) && RELOAD.ends_with(crate::provision::line::FIREWALL_RELOAD)
        );
    }

    #[test]
    fn each_port_has_a_rule_of_its_own() {
        assert_eq!(rules(&[]), "");
        let port = |port, protocol, callers| HostPort {
            port,
            protocol,
            callers,
        };
        insta::assert_snapshot!(rules(&[
            port(8099, Protocol::Tcp, Callers::Pods),
            port(5353, Protocol::Udp, Callers::Pods),
            port(9443, Protocol::Tcp, Callers::Api),
        ]));
    }
}
