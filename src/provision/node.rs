//! kubelet and kube-proxy.

use serde_json::json;

use super::unit::Unit;
use super::wanted::{
    self, Inputs, KUBERNETES_DIR, Wanted, binary, certificate_path, key_pair, key_path, public,
};
use super::{balancer, links, runtime};
use crate::assets::version::KubernetesVersion;
use crate::extra_config::{self, Component};
use crate::network::Network;
use crate::pki::CertName;
use crate::role::Role;

pub(super) fn wanted(inputs: &Inputs<'_>) -> Wanted {
    let mut all = kubelet(inputs);
    all.add(kube_proxy(inputs));
    all
}

/// Returns the unit that has the API for the node's programs: the API server, or what leads to one.
fn api_server(role: Role) -> &'static [&'static str] {
    match role {
        Role::ControlPlane => &["kube-apiserver.service"],
        Role::Worker => &[balancer::UNIT],
    }
}

fn kubelet(inputs: &Inputs<'_>) -> Wanted {
    let pki = inputs.pki;
    let config = format!("{KUBERNETES_DIR}/kubelet.json");
    let kubeconfig = format!("{KUBERNETES_DIR}/kubelet.conf");
    let mut files = vec![
        public(&config, kubelet_config(inputs.version, inputs.network)),
        wanted::kubeconfig(&kubeconfig, pki, CertName::KubeletClient),
    ];
    files.extend(key_pair(pki, CertName::KubeletServing));
    if inputs.role == Role::Worker {
        // On a control plane node the API server's files have it.
        files.push(public(
            certificate_path(CertName::Ca),
            pki.cert(CertName::Ca),
        ));
    }
    let mut command = vec![
        binary("kubelet"),
        format!("--config={config}"),
        "--hostname-override=${NODE_NAME}".to_owned(),
        format!("--kubeconfig={kubeconfig}"),
        "--node-ip=${NODE_IP}".to_owned(),
    ];
    command.extend(inputs.extra_flags(Component::Kubelet));
    let unit = Unit::service("kubelet", "Kubernetes node agent", &command)
        .line("EnvironmentFile", links::NODE_ENVIRONMENT)
        .line("OOMScoreAdjust", "-999")
        .unhurried()
        .only_with(&kubeconfig)
        .reads([links::NODE_ENVIRONMENT])
        .requires(&[runtime::MOUNT])
        // No pod without the firewall.
        .after(&["containerd.service", "nftables.service", links::UNIT])
        // A kubelet that does not reach the API server waits for seconds before it tries again.
        .after(api_server(inputs.role));
    Wanted::unit(files, unit)
}

/// The first minor version whose kubelet checks who may use an image that is there.
const VERIFIES_IMAGES: u32 = 35;

fn kubelet_config(version: KubernetesVersion, network: &Network) -> String {
    let mut config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": certificate_path(CertName::Ca)},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "systemd",
        "clusterDNS": [network.dns_ip()],
        "clusterDomain": network.domain,
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "failSwapOn": false,
        "resolvConf": "/run/systemd/resolve/resolv.conf",
        "tlsCertFile": certificate_path(CertName::KubeletServing),
        "tlsPrivateKeyFile": key_path(CertName::KubeletServing),
    });
    if version.minor >= VERIFIES_IMAGES {
        // An image that was loaded stays usable when the same one was pulled under another name.
        // Otherwise the kubelet wants to pull it by the name that no registry knows.
        config["imagePullCredentialsVerificationPolicy"] = json!("NeverVerify");
    }
    format!("{config:#}\n")
}

fn kube_proxy(inputs: &Inputs<'_>) -> Wanted {
    let config = format!("{KUBERNETES_DIR}/kube-proxy.json");
    let kubeconfig = format!("{KUBERNETES_DIR}/kube-proxy.conf");
    let files = vec![
        public(&config, kube_proxy_config(&kubeconfig, inputs)),
        wanted::kubeconfig(&kubeconfig, inputs.pki, CertName::KubeProxy),
    ];
    let command = vec![
        binary("kube-proxy"),
        format!("--config={config}"),
        "--hostname-override=${NODE_NAME}".to_owned(),
    ];
    let unit = Unit::service("kube-proxy", "Kubernetes network proxy", &command)
        .line("EnvironmentFile", links::NODE_ENVIRONMENT)
        .line("OOMScoreAdjust", "-998")
        .unhurried()
        .only_with(&kubeconfig)
        .reads([links::NODE_ENVIRONMENT])
        .requires(&[runtime::MOUNT])
        .after(api_server(inputs.role))
        .late();
    Wanted::unit(files, unit)
}

fn kube_proxy_config(kubeconfig: &str, inputs: &Inputs<'_>) -> String {
    let mut config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": kubeconfig},
        "clusterCIDR": inputs.network.pods.to_string(),
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "mode": "iptables",
    });
    extra_config::configure_proxy(inputs.extra_config, &mut config);
    format!("{config:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelets_get_only_settings_that_they_know() {
        let verifies = |minor| {
            kubelet_config(KubernetesVersion { minor, patch: 0 }, &Network::default())
                .contains("imagePullCredentialsVerificationPolicy")
        };
        assert!(!verifies(34));
        assert!(verifies(35) && verifies(37));
    }
}
