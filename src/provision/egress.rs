//! The node's way to the world: registries, proxies, private authorities and name servers, as
//! the host has them. Where nothing is set, nothing is written and nothing runs.

use super::line::FIREWALL_RELOAD;
use super::wanted::{Action, Inputs, Tidy, Wanted, public, secret};
use crate::egress::{Dns, Egress};
use crate::network::{HOST_IN_NODE, Network};

/// The environment of containerd; only root reads it, since a proxy's URL may hold a password.
pub(super) const CONTAINERD_ENVIRONMENT: &str = "/etc/kubby/containerd.env";

/// Go's programs trust what is in this folder beside the system's own bundle, see
/// [`containerd_environment`].
const AUTHORITIES_DIR: &str = "/etc/kubby/ca";

/// The certificates of authorities that the host has beside Debian's.
pub(super) const AUTHORITIES: &str = "/etc/kubby/ca/host.crt";

/// Exceptions from the rules in front of the host's loopback; `nftables.conf` includes it.
const FIREWALL: &str = "/etc/kubby/nftables.d/host.nft";

/// Name servers and search domains, beside the image's own settings of the network.
const NETWORK: &str = "/etc/systemd/network/10-node.network.d/kubby.conf";

/// The first line of files that go when nothing wants them any more.
const MARK: &str =
    "# Written by kubby for what the host is set to; `kubby start` keeps it up to date.";

pub(super) fn wanted(inputs: &Inputs<'_>) -> Wanted {
    let egress = inputs.egress;
    let mut files = vec![
        secret(
            CONTAINERD_ENVIRONMENT,
            containerd_environment(egress, inputs.network),
        ),
        public(AUTHORITIES, egress.certificates.concat()),
        public(FIREWALL, firewall(egress)),
        public(NETWORK, network(&egress.dns)),
    ];
    for (host, registry) in &egress.registries.0 {
        let folder = format!("/etc/containerd/certs.d/{host}");
        let ca = format!("{folder}/ca.crt");
        let toml = format!("{MARK}\n{}", registry.hosts_toml(host, &ca));
        files.push(public(format!("{folder}/hosts.toml"), toml));
        if !registry.certificates.is_empty() {
            let pem = format!("{MARK}\n{}", registry.certificates.concat());
            files.push(public(ca, pem));
        }
    }
    Wanted {
        files,
        optional: vec![CONTAINERD_ENVIRONMENT, AUTHORITIES, FIREWALL, NETWORK],
        actions: vec![
            Action::new(FIREWALL, FIREWALL_RELOAD),
            Action::new(NETWORK, "networkctl reload"),
        ],
        tidy: vec![Tidy {
            pattern: "/etc/containerd/certs.d/*/*",
            mark: MARK,
        }],
        ..Wanted::default()
    }
}

/// Returns lines for systemd's `EnvironmentFile=`. The values hold no quotes and no backslashes.
fn containerd_environment(egress: &Egress, network: &Network) -> String {
    let mut lines = egress.proxy.environment(network);
    if !egress.certificates.is_empty() {
        // Read in addition to the one bundle that Go finds by itself.
        lines.push(format!("SSL_CERT_DIR={AUTHORITIES_DIR}"));
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Lets through to the host's loopback what was asked for, and nothing else.
fn firewall(egress: &Egress) -> String {
    let ports = egress.host_ports();
    let aliases = egress.dns.aliases();
    let mut text = String::new();
    if !ports.is_empty() {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        text.push_str(&format!(
            "# Registries and proxies on the host: for programs of the node itself, which run as\n\
             # root, and not for pods, whose packets are forwarded.\n\
             add rule inet kubby node_to_host meta skuid 0 ip daddr {HOST_IN_NODE} tcp dport {{ {} }} accept\n",
            ports.join(", ")
        ));
    }
    if !aliases.is_empty() {
        text.push_str(
            "# Name servers, which pods ask as well.\n\
             add chain inet kubby nat_output { type nat hook output priority -100; }\n\
             add chain inet kubby nat_prerouting { type nat hook prerouting priority dstnat; }\n",
        );
    }
    for alias in aliases {
        let loopback = alias.to.ip().is_loopback();
        let to = if loopback {
            HOST_IN_NODE
        } else {
            *alias.to.ip()
        };
        let port = alias.to.port();
        if loopback {
            text.push_str(&format!(
                "add rule inet kubby any_to_host ip daddr {to} meta l4proto {{ tcp, udp }} th dport {port} accept\n"
            ));
        }
        for chain in ["nat_output", "nat_prerouting"] {
            text.push_str(&format!(
                "add rule inet kubby {chain} ip daddr {} meta l4proto {{ tcp, udp }} th dport 53 dnat ip to {to}:{port}\n",
                alias.at
            ));
        }
    }
    text
}

/// Settings of systemd-networkd, which hands name servers and domains to systemd-resolved.
fn network(dns: &Dns) -> String {
    if *dns == Dns::default() {
        return String::new();
    }
    let mut text = String::from("[Network]\n");
    if !dns.servers.is_empty() {
        // The empty line forgets the image's own server.
        text.push_str("DNS=\n");
    }
    for address in dns.addresses() {
        text.push_str(&format!("DNS={address}\n"));
    }
    if !dns.search.is_empty() {
        text.push_str(&format!("Domains={}\n", dns.search.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::{HostFacts, Settings};

    fn egress(settings: &Settings, host: &HostFacts) -> Egress {
        Egress::gather(settings, host).unwrap().0
    }

    fn environment(egress: &Egress) -> String {
        let network = Network::default();
        containerd_environment(egress, &network)
    }

    #[test]
    fn a_plain_host_leaves_no_trace() {
        let egress = Egress::default();
        assert_eq!(environment(&egress), "");
        assert_eq!(firewall(&egress), "");
        assert_eq!(network(&egress.dns), "");
    }

    #[test]
    fn only_what_was_asked_for_is_let_through() {
        let settings = Settings {
            registry_mirrors: vec!["http://127.0.0.1:5000".into(), "https://m.example".into()],
            dns: vec![
                "127.0.0.1:5353".into(),
                "10.1.1.1".into(),
                "10.1.1.2:54".into(),
            ],
            ..Settings::default()
        };
        let host = HostFacts {
            environment: vec![("https_proxy".into(), "http://localhost:3128".into())],
            resolv_conf: "search a.example b.example\n".into(),
            ..HostFacts::default()
        };
        let egress = egress(&settings, &host);
        insta::assert_snapshot!(firewall(&egress), @r"
        # Registries and proxies on the host: for programs of the node itself, which run as
        # root, and not for pods, whose packets are forwarded.
        add rule inet kubby node_to_host meta skuid 0 ip daddr 10.0.2.2 tcp dport { 3128, 5000 } accept
        # Name servers, which pods ask as well.
        add chain inet kubby nat_output { type nat hook output priority -100; }
        add chain inet kubby nat_prerouting { type nat hook prerouting priority dstnat; }
        add rule inet kubby any_to_host ip daddr 10.0.2.2 meta l4proto { tcp, udp } th dport 5353 accept
        add rule inet kubby nat_output ip daddr 10.0.2.101 meta l4proto { tcp, udp } th dport 53 dnat ip to 10.0.2.2:5353
        add rule inet kubby nat_prerouting ip daddr 10.0.2.101 meta l4proto { tcp, udp } th dport 53 dnat ip to 10.0.2.2:5353
        add rule inet kubby nat_output ip daddr 10.0.2.102 meta l4proto { tcp, udp } th dport 53 dnat ip to 10.1.1.2:54
        add rule inet kubby nat_prerouting ip daddr 10.0.2.102 meta l4proto { tcp, udp } th dport 53 dnat ip to 10.1.1.2:54
        ");
        insta::assert_snapshot!(network(&egress.dns), @r"
        [Network]
        DNS=
        DNS=10.0.2.101
        DNS=10.1.1.1
        DNS=10.0.2.102
        Domains=a.example b.example
        ");
    }

    #[test]
    fn passwords_are_for_root_alone() {
        let host = HostFacts {
            environment: vec![("HTTP_PROXY".into(), "http://me:secret@p:1".into())],
            ..HostFacts::default()
        };
        let egress = egress(&Settings::default(), &host);
        let text = environment(&egress);
        assert!(
            text.starts_with("HTTP_PROXY=http://me:secret@p:1\nNO_PROXY="),
            "{text}"
        );
        assert_eq!(secret("/x", text).mode, 0o600);
    }
}
