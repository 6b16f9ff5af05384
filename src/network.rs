//! The addresses and names by which nodes, their programs and pods reach each other.
//!
//! Each machine has a user-mode network of its own, in which all of them have the same address. In its
//! cluster a node has another one, on its loopback interface, which other nodes reach through WireGuard:
//! `provision/links.rs`. It is the same in every copy of the cluster. The network files of the node image
//! (`images/node/root/etc`) and the DNS add-on repeat some of these values; tests compare them.

use std::fmt;
use std::net::Ipv4Addr;

/// The name of a cluster's first node: the same in every cluster, so that a copy needs no renaming.
pub(crate) const NODE_NAME: &str = "kubby";
/// A machine's address in its user-mode network.
#[cfg(test)]
const MACHINE_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// The host's loopback as a node sees it: QEMU leads connections there to 127.0.0.1.
pub(crate) const HOST_IN_NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// The name of the host in nodes and pods.
pub(crate) const HOST_NAME: &str = "host.kubby.internal";
/// The first address for name servers that a node cannot address by themselves.
pub(crate) const NAME_SERVER_ALIASES: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 101);
/// The port of kube-apiserver in a node.
pub(crate) const API_PORT: u16 = 6443;
/// The URL at which components reach kube-apiserver, the same in every node.
pub(crate) const API_URL: &str = "https://127.0.0.1:6443";
/// The port at which a node expects other nodes' packets.
pub(crate) const LINK_PORT: u16 = 51820;
/// The port of the SSH server in a node.
pub(crate) const SSH_PORT: u16 = 22;
/// The URL at which etcd's clients with a certificate reach it in its node, such as `etcdctl`.
pub(crate) const ETCD_CLIENT_URL: &str = "https://127.0.0.1:2379";
/// The port at which etcd members reach each other.
pub(crate) const ETCD_PEER_PORT: u16 = 2380;
/// The URL at which the only etcd member of a cluster would be reached by others.
pub(crate) const ETCD_PEER_URL: &str = "https://127.0.0.1:2380";

/// A range of IPv4 addresses, written like `10.244.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    first: Ipv4Addr,
    prefix: u8,
}

impl Cidr {
    /// Returns the range of the addresses that have their first `prefix` bits in common with `first`.
    pub const fn new(first: Ipv4Addr, prefix: u8) -> Self {
        Cidr { first, prefix }
    }

    /// Returns the address that is `index` after the first one.
    pub fn address(self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first.to_bits() + index)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

/// The network that all nodes of a cluster share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The addresses of nodes.
    pub nodes: Cidr,
    /// The addresses of pods in the whole cluster.
    pub pods: Cidr,
    /// The addresses of Services.
    pub services: Cidr,
    /// The DNS domain of Services.
    pub domain: String,
}

/// The addresses that kubeadm uses as well; those of nodes follow those of pods.
impl Default for Network {
    fn default() -> Self {
        Network {
            nodes: Cidr::new(Ipv4Addr::new(10, 245, 0, 0), 24),
            pods: Cidr::new(Ipv4Addr::new(10, 244, 0, 0), 16),
            services: Cidr::new(Ipv4Addr::new(10, 96, 0, 0), 12),
            domain: "cluster.local".to_owned(),
        }
    }
}

impl Network {
    /// Returns the address of the Service `kubernetes`.
    pub fn kubernetes_ip(&self) -> Ipv4Addr {
        self.services.address(1)
    }

    /// Returns the address of the cluster's DNS Service.
    pub fn dns_ip(&self) -> Ipv4Addr {
        self.services.address(10)
    }

    /// Returns the name of the Service `kubernetes` in the cluster's DNS.
    pub fn kubernetes_name(&self) -> String {
        format!("kubernetes.default.svc.{}", self.domain)
    }

    /// Returns the URL that service accounts' tokens name as their issuer.
    pub fn token_issuer(&self) -> String {
        format!("https://{}", self.kubernetes_name())
    }

    /// Returns the first node of a cluster.
    pub fn first_node(&self) -> NodeNetwork {
        self.node(NODE_NAME, FIRST_NUMBER)
    }

    /// Returns the node with this name and number.
    pub fn node(&self, name: &str, number: u8) -> NodeNetwork {
        let before = u32::from(number - FIRST_NUMBER);
        NodeNetwork {
            name: name.to_owned(),
            ip: self.nodes.address(number.into()),
            pods: Cidr::new(self.pods.address(before << 8), 24),
        }
    }
}

/// The number of a cluster's first node.
pub(crate) const FIRST_NUMBER: u8 = 1;
/// The highest number of a node.
pub(crate) const LAST_NUMBER: u8 = 254;

/// The name and addresses of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeNetwork {
    /// The name of its Node object and of its host.
    pub name: String,
    /// The address that it has in its cluster, on its loopback interface.
    pub ip: Ipv4Addr,
    /// The addresses of its pods.
    pub pods: Cidr,
}

impl NodeNetwork {
    /// Returns the options that say which member of which cluster an etcd is. etcd stores them with
    /// its data.
    pub fn etcd_member(&self, data: &str) -> [String; 5] {
        let name = &self.name;
        [
            format!("--name={name}"),
            format!("--data-dir={data}"),
            format!("--advertise-client-urls={ETCD_CLIENT_URL}"),
            format!("--initial-advertise-peer-urls={ETCD_PEER_URL}"),
            format!("--initial-cluster={name}={ETCD_PEER_URL}"),
        ]
    }

    /// Returns the options that say which member an etcd is that joins others. The members that it meets are
    /// in its environment, since they change, and count only before it has data.
    pub fn joining_etcd_member(&self, data: &str) -> [String; 4] {
        [
            format!("--name={}", self.name),
            format!("--data-dir={data}"),
            format!("--advertise-client-urls={ETCD_CLIENT_URL}"),
            format!("--initial-advertise-peer-urls={}", self.etcd_peer_url()),
        ]
    }

    /// Returns the URL at which other members reach the etcd of this node.
    pub fn etcd_peer_url(&self) -> String {
        format!("https://{}:{ETCD_PEER_PORT}", self.ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_what_clusters_have_on_disk() {
        let network = Network::default();
        let node = network.first_node();
        assert_eq!(network.pods.to_string(), "10.244.0.0/16");
        assert_eq!(network.services.to_string(), "10.96.0.0/12");
        assert_eq!(network.kubernetes_ip().to_string(), "10.96.0.1");
        assert_eq!(network.dns_ip().to_string(), "10.96.0.10");
        assert_eq!(API_URL, format!("https://127.0.0.1:{API_PORT}"));
        assert_eq!(
            network.token_issuer(),
            "https://kubernetes.default.svc.cluster.local"
        );
        assert_eq!(node.ip.to_string(), "10.245.0.1");
        assert_eq!(node.pods.to_string(), "10.244.0.0/24");
        let last = network.node("last", LAST_NUMBER);
        assert_eq!(last.ip.to_string(), "10.245.0.254");
        assert_eq!(last.pods.to_string(), "10.244.253.0/24");
        assert_eq!(
            node.etcd_member("/d"),
            [
                "--name=kubby",
                "--data-dir=/d",
                "--advertise-client-urls=https://127.0.0.1:2379",
                "--initial-advertise-peer-urls=https://127.0.0.1:2380",
                "--initial-cluster=kubby=https://127.0.0.1:2380",
            ]
        );
    }

    #[test]
    fn the_node_image_has_the_same_addresses() {
        let network = include_str!("../images/node/root/etc/systemd/network/10-node.network");
        assert!(network.contains(&format!("\nAddress={MACHINE_IP}/24\n")));
        assert!(network.contains(&format!("\nGateway={HOST_IN_NODE}\n")));
        let firewall = include_str!("../images/node/root/etc/nftables.conf");
        assert!(firewall.contains(&format!("ip daddr {MACHINE_IP} accept")));
        let host = format!("{HOST_IN_NODE} {HOST_NAME}\n");
        assert!(include_str!("../images/node/root/etc/hosts").ends_with(&host));
        assert!(include_str!("../images/addons/dns/coredns.yaml").contains(&host));
        let name = include_str!("../images/node/root/etc/hostname");
        assert_eq!(name.trim(), NODE_NAME);
    }
}
