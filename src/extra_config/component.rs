//! The components that take settings, and what kubby sets of them itself.

/// A program of Kubernetes that takes settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Component {
    ApiServer,
    ControllerManager,
    Scheduler,
    Kubelet,
    Proxy,
    Etcd,
}

impl Component {
    /// All of them. Those of Kubernetes, which have its feature gates, come first.
    pub(crate) const ALL: [Component; 6] = [
        Component::ApiServer,
        Component::ControllerManager,
        Component::Scheduler,
        Component::Kubelet,
        Component::Proxy,
        Component::Etcd,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Component::ApiServer => "apiserver",
            Component::ControllerManager => "controller-manager",
            Component::Scheduler => "scheduler",
            Component::Kubelet => "kubelet",
            Component::Proxy => "kube-proxy",
            Component::Etcd => "etcd",
        }
    }

    pub(super) fn of_name(name: &str) -> Option<Self> {
        let plain = |name: &str| name.strip_prefix("kube-").unwrap_or(name).to_owned();
        let mut all = Component::ALL.into_iter();
        all.find(|component| plain(component.name()) == plain(name))
    }

    /// Returns the program, as the component volume has it.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Component::ApiServer => "kube-apiserver",
            Component::ControllerManager => "kube-controller-manager",
            Component::Scheduler => "kube-scheduler",
            Component::Kubelet => "kubelet",
            Component::Proxy => "kube-proxy",
            Component::Etcd => "etcd",
        }
    }

    /// Returns the flags, or the fields of a configuration, that kubby sets itself and relies on.
    pub(crate) fn own(self) -> &'static [&'static str] {
        match self {
            Component::ApiServer => API_SERVER,
            Component::ControllerManager => CONTROLLER_MANAGER,
            Component::Scheduler => SCHEDULER,
            Component::Kubelet => KUBELET,
            Component::Proxy => PROXY,
            Component::Etcd => ETCD,
        }
    }
}

const API_SERVER: &[&str] = &[
    "advertise-address",
    "allow-privileged",
    "authentication-config",
    "authorization-mode",
    "client-ca-file",
    "enable-bootstrap-token-auth",
    "etcd-servers",
    "kubelet-certificate-authority",
    "kubelet-client-certificate",
    "kubelet-client-key",
    "kubelet-preferred-address-types",
    "proxy-client-cert-file",
    "proxy-client-key-file",
    "requestheader-allowed-names",
    "requestheader-client-ca-file",
    "requestheader-extra-headers-prefix",
    "requestheader-group-headers",
    "requestheader-username-headers",
    "secure-port",
    "service-account-issuer",
    "service-account-key-file",
    "service-account-signing-key-file",
    "service-cluster-ip-range",
    "tls-cert-file",
    "tls-private-key-file",
];

const CONTROLLER_MANAGER: &[&str] = &[
    "allocate-node-cidrs",
    "authentication-kubeconfig",
    "authorization-kubeconfig",
    "bind-address",
    "client-ca-file",
    "cluster-cidr",
    "cluster-signing-cert-file",
    "cluster-signing-key-file",
    "kubeconfig",
    "leader-elect",
    "requestheader-client-ca-file",
    "root-ca-file",
    "service-account-private-key-file",
    "service-cluster-ip-range",
    "tls-cert-file",
    "tls-private-key-file",
    "use-service-account-credentials",
];

const SCHEDULER: &[&str] = &[
    "authentication-kubeconfig",
    "authorization-kubeconfig",
    "bind-address",
    "kubeconfig",
    "leader-elect",
    "tls-cert-file",
    "tls-private-key-file",
];

const KUBELET: &[&str] = &["config", "hostname-override", "kubeconfig", "node-ip"];

const PROXY: &[&str] = &[
    "apiVersion",
    "clientConnection",
    "clusterCIDR",
    "healthzBindAddress",
    "kind",
];

const ETCD: &[&str] = &[
    "advertise-client-urls",
    "cert-file",
    "client-cert-auth",
    "data-dir",
    "initial-advertise-peer-urls",
    "initial-cluster",
    "initial-cluster-state",
    "key-file",
    "listen-client-urls",
    "listen-peer-urls",
    "name",
    "peer-cert-file",
    "peer-client-cert-auth",
    "peer-key-file",
    "peer-trusted-ca-file",
    "trusted-ca-file",
];
