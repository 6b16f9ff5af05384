//! Which certificates a cluster has, and what each must say.

use rcgen::ExtendedKeyUsagePurpose as Purpose;
use time::OffsetDateTime;

use crate::network::{FIRST_NUMBER, NODE_NAME, Network, NodeNetwork};
use crate::role::Role;

/// The network and the time that the certificates of a cluster depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PkiSpec {
    /// The network of the cluster.
    pub network: Network,
    /// The node whose certificates are meant.
    pub node: NodeNetwork,
    /// Its role.
    pub role: Role,
    /// The time to count validity from.
    pub now: OffsetDateTime,
}

impl PkiSpec {
    /// Returns what the certificates of a cluster and of its first node depend on.
    pub fn of_first_node(now: OffsetDateTime) -> Self {
        PkiSpec::of_node(NODE_NAME, FIRST_NUMBER, Role::ControlPlane, now)
    }

    /// Returns what the certificates of one of a cluster's nodes depend on.
    pub fn of_node(name: &str, number: u8, role: Role, now: OffsetDateTime) -> Self {
        let network = Network::default();
        PkiSpec {
            node: network.node(name, number),
            network,
            role,
            now,
        }
    }
}

/// A certificate of the cluster, laid out as kubeadm does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CertName {
    /// The cluster's authority, which all components trust.
    Ca,
    /// The authority of the API aggregation layer.
    FrontProxyCa,
    /// The authority of etcd's server, peer and client certificates.
    EtcdCa,
    /// The authority of the operator's certificate and of nothing else. A copy of a cluster gets
    /// another one, so that the copy refuses the operator of the original and the other way round.
    OperatorCa,
    /// kube-apiserver's certificate as a server.
    Apiserver,
    /// kube-apiserver's certificate as a client of kubelets.
    ApiserverKubeletClient,
    /// kube-apiserver's certificate as a client of etcd.
    ApiserverEtcdClient,
    /// kube-apiserver's certificate as a client of aggregated API servers.
    FrontProxyClient,
    /// etcd's certificate as a server, and as a client for its own gateway.
    EtcdServer,
    /// The certificate that etcd members show to each other.
    EtcdPeer,
    /// The user's certificate, and kubby's own.
    Admin,
    /// kube-controller-manager's certificate as a client of kube-apiserver.
    ControllerManager,
    /// kube-controller-manager's certificate as a server of its health and metrics.
    ControllerManagerServing,
    /// kube-scheduler's certificate as a client of kube-apiserver.
    Scheduler,
    /// kube-scheduler's certificate as a server of its health and metrics.
    SchedulerServing,
    /// kube-proxy's certificate as a client of kube-apiserver.
    KubeProxy,
    /// The kubelet's certificate as a client of kube-apiserver.
    KubeletClient,
    /// The kubelet's certificate as a server, for logs and exec.
    KubeletServing,
}

/// The extended key usage of authorities, which only sign.
const AUTHORITY: &[Purpose] = &[];
/// The extended key usage of clients.
pub(super) const CLIENT: &[Purpose] = &[Purpose::ClientAuth];
/// The extended key usage of servers.
pub(super) const SERVER: &[Purpose] = &[Purpose::ServerAuth];
/// The extended key usage of servers that also are clients.
pub(super) const BOTH: &[Purpose] = &[Purpose::ClientAuth, Purpose::ServerAuth];

/// The organization whose members pass without any role.
const MASTERS: Option<&str> = Some("system:masters");
/// The organization of nodes.
const NODES: Option<&str> = Some("system:nodes");

/// The content that a certificate must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Profile {
    pub common_name: String,
    pub organization: Option<&'static str>,
    pub usage: &'static [Purpose],
    /// Sorted, IP addresses in their canonical form.
    pub sans: Vec<String>,
}

impl CertName {
    /// All certificates, the authorities first.
    pub const ALL: [CertName; 18] = [
        CertName::Ca,
        CertName::FrontProxyCa,
        CertName::EtcdCa,
        CertName::OperatorCa,
        CertName::Apiserver,
        CertName::ApiserverKubeletClient,
        CertName::ApiserverEtcdClient,
        CertName::FrontProxyClient,
        CertName::EtcdServer,
        CertName::EtcdPeer,
        CertName::Admin,
        CertName::ControllerManager,
        CertName::ControllerManagerServing,
        CertName::Scheduler,
        CertName::SchedulerServing,
        CertName::KubeProxy,
        CertName::KubeletClient,
        CertName::KubeletServing,
    ];

    /// Returns the path of its files below the PKI's directory, without `.crt` and `.key`.
    pub fn stem(self) -> &'static str {
        match self {
            CertName::Ca => "ca",
            CertName::FrontProxyCa => "front-proxy-ca",
            CertName::EtcdCa => "etcd/ca",
            CertName::OperatorCa => "operator-ca",
            CertName::Apiserver => "apiserver",
            CertName::ApiserverKubeletClient => "apiserver-kubelet-client",
            CertName::ApiserverEtcdClient => "apiserver-etcd-client",
            CertName::FrontProxyClient => "front-proxy-client",
            CertName::EtcdServer => "etcd/server",
            CertName::EtcdPeer => "etcd/peer",
            CertName::Admin => "admin",
            CertName::ControllerManager => "controller-manager",
            CertName::ControllerManagerServing => "controller-manager-serving",
            CertName::Scheduler => "scheduler",
            CertName::SchedulerServing => "scheduler-serving",
            CertName::KubeProxy => "kube-proxy",
            CertName::KubeletClient => "kubelet-client",
            CertName::KubeletServing => "kubelet-serving",
        }
    }

    /// Returns the certificate whose files have this path, as [`CertName::stem`] returns it.
    pub fn of_stem(stem: &str) -> Option<CertName> {
        CertName::ALL.into_iter().find(|name| name.stem() == stem)
    }

    /// Returns whether each node needs one of its own, since the node's name or address is in it.
    /// All others are the cluster's: its authorities, and the clients and servers that have the
    /// same name on each node.
    pub fn is_of_node(self) -> bool {
        matches!(
            self,
            CertName::Apiserver
                | CertName::EtcdServer
                | CertName::EtcdPeer
                | CertName::KubeletClient
                | CertName::KubeletServing
        )
    }

    /// Returns whether a node of this role needs one of its own.
    pub(super) fn is_of(self, role: Role) -> bool {
        match role {
            Role::ControlPlane => self.is_of_node(),
            Role::Worker => matches!(self, CertName::KubeletClient | CertName::KubeletServing),
        }
    }

    /// Returns the certificates that a node of this role has of its own, in the order of
    /// [`CertName::ALL`].
    pub(super) fn of_node(role: Role) -> Vec<CertName> {
        let all = CertName::ALL.into_iter();
        all.filter(|name| name.is_of(role)).collect()
    }

    /// Returns the authority that signs it; `None` for an authority, which signs itself.
    pub fn authority(self) -> Option<CertName> {
        match self {
            CertName::Ca | CertName::FrontProxyCa | CertName::EtcdCa | CertName::OperatorCa => None,
            CertName::Admin => Some(CertName::OperatorCa),
            CertName::FrontProxyClient => Some(CertName::FrontProxyCa),
            CertName::ApiserverEtcdClient | CertName::EtcdServer | CertName::EtcdPeer => {
                Some(CertName::EtcdCa)
            }
            _ => Some(CertName::Ca),
        }
    }

    /// Returns whether a lost authority may be replaced: the API server reads the operator's again
    /// while it runs, and nothing else uses it.
    pub(super) fn is_replaceable(self) -> bool {
        self == CertName::OperatorCa
    }

    /// Returns the content that it must have in a cluster of this specification.
    pub(super) fn profile(self, spec: &PkiSpec) -> Profile {
        let node = &spec.node.name;
        let of = |common_name: &str, organization, usage: &'static [Purpose]| Profile {
            common_name: common_name.to_owned(),
            organization,
            usage,
            sans: self.sans(spec, usage),
        };
        match self {
            CertName::Ca => of("kubernetes", None, AUTHORITY),
            CertName::FrontProxyCa => of("front-proxy-ca", None, AUTHORITY),
            CertName::EtcdCa => of("etcd-ca", None, AUTHORITY),
            CertName::OperatorCa => of("kubby-operator-ca", None, AUTHORITY),
            CertName::Apiserver => of("kube-apiserver", None, SERVER),
            // The kubelet asks the API server itself whether this client may read logs. Members
            // of system:masters pass without any role, so logs and exec work from the first
            // second and whatever a user does to roles; the key never leaves the control plane,
            // which can do everything anyway.
            CertName::ApiserverKubeletClient => {
                of("kube-apiserver-kubelet-client", MASTERS, CLIENT)
            }
            CertName::ApiserverEtcdClient => of("kube-apiserver-etcd-client", None, CLIENT),
            CertName::FrontProxyClient => of("front-proxy-client", None, CLIENT),
            CertName::EtcdServer | CertName::EtcdPeer => of(node, None, BOTH),
            CertName::Admin => of("kubernetes-admin", MASTERS, CLIENT),
            CertName::ControllerManager => of("system:kube-controller-manager", None, CLIENT),
            CertName::ControllerManagerServing => of("kube-controller-manager", None, SERVER),
            CertName::Scheduler => of("system:kube-scheduler", None, CLIENT),
            CertName::SchedulerServing => of("kube-scheduler", None, SERVER),
            CertName::KubeProxy => of("system:kube-proxy", None, CLIENT),
            CertName::KubeletClient => of(&format!("system:node:{node}"), NODES, CLIENT),
            CertName::KubeletServing => of(&format!("system:node:{node}"), NODES, SERVER),
        }
    }

    fn sans(self, spec: &PkiSpec, usage: &[Purpose]) -> Vec<String> {
        let mut sans = Vec::new();
        if usage.contains(&Purpose::ServerAuth) {
            sans.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
            // The others listen on the loopback only.
            if self.is_of_node() {
                sans.push(spec.node.name.to_ascii_lowercase());
                sans.push(spec.node.ip.to_string());
            }
        }
        if self == CertName::Apiserver {
            let short = ["", ".default", ".default.svc"];
            sans.extend(short.map(|suffix| format!("kubernetes{suffix}")));
            sans.push(spec.network.kubernetes_name());
            sans.push(spec.network.kubernetes_ip().to_string());
        }
        sans.sort();
        sans.dedup();
        sans
    }
}
