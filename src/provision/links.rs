//! The node's address in its cluster, and the links to the other nodes.
//!
//! Each machine is alone in its user-mode network, so the nodes of a cluster are joined by WireGuard: a UDP
//! port of the host's 127.0.0.1 leads to each of them, and the others reach it there through 10.0.2.2. No
//! process on the host is needed, other users of the host cannot read or forge anything, and a packet is
//! accepted only from the node whose addresses it comes from.

use std::fmt::Write as _;

use super::line::{self, FIREWALL_RELOAD, INTERFACE};
use super::unit::Unit;
use super::wanted::{Action, Inputs, Links, Wanted, public, secret};
use crate::network::{HOST_IN_NODE, LINK_PORT, Network, NodeNetwork};
use crate::remote::NodeFile;
use crate::role::Role;

/// The unit that others need which use the node's address.
pub(super) const UNIT: &str = "kubby-network.service";

/// The script that sets address, interface and routes.
const SCRIPT: &str = "/usr/local/lib/kubby/network";

/// The node's key and its peers, as `wg setconf` reads them.
const PEERS: &str = "/etc/kubby/wireguard.conf";

/// The rules that let only the peers' packets in.
const SOURCES: &str = "/etc/kubby/link-sources.nft";

/// The command that puts changed peers into force where the interface is there already.
const RELINK: &str = "[ ! -e /sys/class/net/nodes ] || [ ! -s /etc/kubby/wireguard.conf ] || \
    { wg syncconf nodes /etc/kubby/wireguard.conf && nft -f /etc/kubby/link-sources.nft; }";

/// Exceptions from the rules in front of the host's loopback; `nftables.conf` includes it.
const FIREWALL: &str = "/etc/kubby/nftables.d/nodes.nft";

/// Its name and address, as lines `NAME=value`.
pub(super) const NODE_ENVIRONMENT: &str = "/etc/kubby/node.env";

/// The node's own name.
const HOSTNAME: &str = "/etc/hostname";

/// The rule by which pods' packets leave the cluster.
const MASQUERADE: &str = "/etc/cni/masquerade.nft";

/// The largest packet between nodes, in bytes. WireGuard puts it into one datagram, which the user-mode
/// network carries in fragments: a large one costs less than the many small ones that it replaces.
pub(super) const MTU: u16 = 8920;

pub(super) fn wanted(inputs: &Inputs<'_>) -> Wanted {
    let (links, network, node) = (inputs.links, inputs.network, inputs.node);
    let environment = format!("NODE_NAME={}\nNODE_IP={}\n", node.name, node.ip);
    let files = vec![
        public(HOSTNAME, format!("{}\n", node.name)),
        public(NODE_ENVIRONMENT, environment),
        // Pods go out under the node's address, by one rule for all of them: the bridge plugin would have
        // a chain for each pod and run iptables half a dozen times for it, which an emulated node takes a
        // third of a second for. As there, not between pods and not to multicast groups; nor to nodes,
        // which see the pods' own addresses.
        public(
            MASQUERADE,
            include_str!("files/masquerade.nft")
                .replace("@PODS@", &node.pods.to_string())
                .replace("@ALL_PODS@", &network.pods.to_string())
                .replace("@NODES@", &network.nodes.to_string()),
        ),
        NodeFile::new(SCRIPT, 0o755, script(network, node, links)),
        secret(PEERS, peers(links)),
        public(SOURCES, sources(links)),
        public(FIREWALL, firewall(inputs.role, links)),
    ];
    let unit = Unit {
        name: UNIT.to_owned(),
        description: "Address of the node, and links to other nodes".to_owned(),
        section: "Service",
        lines: vec![
            ("Type", "oneshot".into()),
            ("RemainAfterExit", "yes".into()),
            ("ExecStart", SCRIPT.into()),
            ("ExecStart", format!("/usr/sbin/nft -f {MASQUERADE}")),
        ],
        ..Unit::default()
    }
    .early()
    .after(&["kubby-modules.service"])
    .only_with(SCRIPT)
    .reads([SCRIPT, MASQUERADE]);
    Wanted {
        files,
        units: vec![unit],
        optional: vec![PEERS, SOURCES, FIREWALL],
        actions: vec![
            Action::new(HOSTNAME, "hostname -F /etc/hostname"),
            Action::new(FIREWALL, FIREWALL_RELOAD),
            // Nodes come and go without a restart of anything. The script does it for a new interface.
            Action::new(PEERS, RELINK),
            Action::new(SOURCES, RELINK),
        ],
        ..Wanted::default()
    }
}

/// Returns the files of a plan that have the node's key and its peers, and the command that puts them into
/// force in a node that runs; nothing for the only node of a cluster.
pub(crate) fn peers_of(wanted: &Wanted) -> Option<(Vec<&NodeFile>, &'static str)> {
    let files = wanted.files.iter();
    let files = files.filter(|file| [PEERS, SOURCES].contains(&file.path.as_str()));
    let files: Vec<&NodeFile> = files.filter(|file| !file.content.is_empty()).collect();
    (!files.is_empty()).then_some((files, RELINK))
}

/// Returns whether these files say nothing but which other nodes there are.
pub(crate) fn are_links(paths: &[String]) -> bool {
    paths.iter().all(|path| path == PEERS || path == SOURCES)
}

/// Returns the script. Running it again changes only what differs, so that links stay up meanwhile.
fn script(network: &Network, node: &NodeNetwork, links: &Links) -> String {
    let mut text = format!(
        "#!/bin/sh\n# Written by kubby; `kubby start` puts it back as it was.\nset -eu\n\
         ip address replace {}/32 dev lo\n",
        node.ip
    );
    if links.peers.is_empty() {
        text.push_str(&format!(
            "if [ -e /sys/class/net/{INTERFACE} ]; then ip link delete {INTERFACE}; fi\n"
        ));
        return text;
    }
    // Which node a packet goes to is WireGuard's own matter: it knows the addresses of each peer. A node that
    // boots for the first time gets them later.
    let _ = write!(
        text,
        "[ -e /sys/class/net/{INTERFACE} ] || ip link add {INTERFACE} type wireguard\n\
         if [ -s {PEERS} ]; then wg syncconf {INTERFACE} {PEERS}; nft -f {SOURCES}; fi\n\
         ip link set {INTERFACE} mtu {MTU} up\n"
    );
    for range in [network.nodes, network.pods] {
        let _ = writeln!(
            text,
            "ip route replace {range} dev {INTERFACE} src {}",
            node.ip
        );
    }
    let _ = writeln!(
        text,
        "[ ! -s {} ] || {}",
        line::NETEM,
        line::replace_netem()
    );
    text
}

fn peers(links: &Links) -> String {
    if links.peers.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "[Interface]\nPrivateKey = {}\nListenPort = {LINK_PORT}\n",
        links.private_key
    );
    for peer in &links.peers {
        let _ = write!(
            text,
            "\n# {}\n[Peer]\nPublicKey = {}\nAllowedIPs = {}/32, {}\nEndpoint = {HOST_IN_NODE}:{}\n",
            peer.node.name, peer.public_key, peer.node.ip, peer.node.pods, peer.port
        );
    }
    text
}

/// Drops packets that come from other ports than the peers'. A copy of a node has its keys until it gets its
/// own, a moment after it resumes: WireGuard would take the copy for the peer, and answer there from then on.
fn sources(links: &Links) -> String {
    if links.peers.is_empty() {
        return String::new();
    }
    let ports = links.peers.iter().map(|peer| peer.port.to_string());
    let ports = ports.collect::<Vec<_>>().join(", ");
    format!(
        "# Written by kubby; `kubby start` puts it back as it was.\n\
         table inet kubby-links\n\
         delete table inet kubby-links\n\
         table inet kubby-links {{\n\
         \tchain input {{\n\
         \t\ttype filter hook input priority filter; policy accept;\n\
         \t\tudp dport {LINK_PORT} udp sport != {{ {ports} }} drop\n\
         \t}}\n\
         }}\n"
    )
}

/// Lets WireGuard's own packets through to the other nodes, whose ports are the host's. The kernel has that
/// port here, so that no program can send from it; pods' packets are forwarded, and stay out. The same for
/// all peers: the rules stay as they are when nodes come and go.
fn firewall(role: Role, links: &Links) -> String {
    if links.peers.is_empty() && role == Role::ControlPlane {
        return String::new();
    }
    format!(
        "# The links to the other nodes.\n\
         add rule inet kubby node_to_host ip daddr {HOST_IN_NODE} udp sport {LINK_PORT} accept\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provision::Peer;

    fn links() -> Links {
        let network = Network::default();
        let peer = |name: &str, number, port| Peer {
            node: network.node(name, number),
            public_key: format!("{name}="),
            port,
        };
        Links {
            private_key: "secret=".into(),
            peers: vec![peer("worker-1", 2, 40002), peer("worker-2", 3, 40003)],
        }
    }

    #[test]
    fn relinking_names_the_interface_and_the_files() {
        for part in [&format!("net/{INTERFACE} "), PEERS, SOURCES] {
            assert!(RELINK.contains(part), "{part}");
        }
    }

    #[test]
    fn a_node_with_others_is_joined_to_each() {
        let network = Network::default();
        let script = script(&network, &network.first_node(), &links());
        insta::assert_snapshot!(format!(
            "{script}---\n{}---\n{}---\n{}",
            peers(&links()),
            sources(&links()),
            firewall(Role::ControlPlane, &links())
        ));
    }

    #[test]
    fn an_only_node_has_an_address_and_no_secret() {
        let network = Network::default();
        let none = Links::default();
        let script = script(&network, &network.first_node(), &none);
        assert!(
            script.contains("ip address replace 10.245.0.1/32 dev lo\n"),
            "{script}"
        );
        assert!(!script.contains("wg "), "{script}");
        assert_eq!(peers(&none) + &firewall(Role::ControlPlane, &none), "");
    }
}
