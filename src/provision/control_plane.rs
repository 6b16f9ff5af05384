//! kube-apiserver, kube-controller-manager and kube-scheduler.

use serde_json::json;

use super::unit::Unit;
use super::wanted::{
    self, Inputs, KUBERNETES_DIR, Wanted, binary, cert_option, certificate_path, key_option,
    key_pair, key_path, public, secret, until_the_api_says,
};
use super::{etcd, links, runtime};
use crate::balancer::READY;
use crate::extra_config::Component;
use crate::network::API_PORT;
use crate::pki::{CertName, Pki};
use crate::remote::NodeFile;

pub(super) fn wanted(inputs: &Inputs<'_>) -> Wanted {
    let mut all = api_server(inputs);
    all.add(controller_manager(inputs));
    all.add(scheduler(inputs));
    all.files.push(operator_kubeconfig(inputs.pki));
    all
}

/// Returns the files that identify the operator. The API server reads them again while it runs, so
/// that a copy of a running cluster can be given another operator.
pub(crate) fn operator_files(pki: &Pki) -> [NodeFile; 2] {
    [client_authorities(pki), operator_kubeconfig(pki)]
}

fn client_authorities(pki: &Pki) -> NodeFile {
    let both = [CertName::Ca, CertName::OperatorCa].map(|name| pki.cert(name));
    public(CLIENT_AUTHORITIES, both.concat())
}

fn operator_kubeconfig(pki: &Pki) -> NodeFile {
    wanted::kubeconfig("/root/.kube/config", pki, CertName::Admin)
}

/// Rejects anonymous requests but for the health paths, which hold no data and which load
/// balancers and `curl` ask without credentials.
fn authentication_config() -> String {
    let config = json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "anonymous": {
            "enabled": true,
            "conditions": [{"path": "/livez"}, {"path": "/readyz"}, {"path": "/healthz"}],
        },
    });
    format!("{config:#}\n")
}

/// The authorities whose clients the API server knows: the cluster's own and the operator's.
const CLIENT_AUTHORITIES: &str = "/etc/kubernetes/pki/client-ca.crt";

/// Returns the key that signs service accounts' tokens: `key` or `pub`.
fn service_account(half: &str) -> String {
    format!("{KUBERNETES_DIR}/pki/sa.{half}")
}

/// Returns the options for the certificate that a program shows to its clients. A program that has
/// none makes two RSA keys and a certificate of its own before it does anything else, for which an
/// emulated processor takes 4 to 9 s.
fn serving(name: CertName) -> [String; 2] {
    [
        cert_option("tls-cert-file", name),
        key_option("tls-private-key-file", name),
    ]
}

/// Without this gate, the API server does not list the keys of each of its 70 kinds of objects once a minute, each a
/// read that etcd confirms: a fifth of its work where nothing else asks.
const GATES: &str = "--feature-gates=SizeBasedListCostEstimate=false";

fn api_server(inputs: &Inputs<'_>) -> Wanted {
    let pki = inputs.pki;
    let authentication = format!("{KUBERNETES_DIR}/authentication.json");
    let mut files = vec![
        public(&authentication, authentication_config()),
        public(certificate_path(CertName::Ca), pki.cert(CertName::Ca)),
        public(
            certificate_path(CertName::FrontProxyCa),
            pki.cert(CertName::FrontProxyCa),
        ),
        secret(service_account("key"), &*pki.service_account_key),
        public(service_account("pub"), &*pki.service_account_pub),
    ];
    for name in [
        CertName::Apiserver,
        CertName::ApiserverKubeletClient,
        CertName::FrontProxyClient,
    ] {
        files.extend(key_pair(pki, name));
    }
    let mut command = api_server_command(inputs, &authentication);
    command.extend(serving(CertName::Apiserver));
    command.extend(inputs.extra_flags(Component::ApiServer));
    let unit = Unit::service("kube-apiserver", "Kubernetes API server", &command)
        .line("Type", "notify")
        // It says that it has started as soon as it listens. What begins after it would ask in vain until it is
        // ready, and take the processors from it.
        .line("ExecStartPost", until_the_api_says(READY, 1))
        .line("TimeoutStartSec", "600")
        // It is done in a tenth of a second, and then waits a minute for watches that no client
        // ends. Each write that it acknowledged is in etcd.
        .line("TimeoutStopSec", "4")
        .line("OOMScoreAdjust", "-997")
        // Fewer collections while it starts, where each would cost seconds under emulation; the
        // limit keeps a busy one from growing without end.
        .line("Environment", "GOGC=400 GOMEMLIMIT=768MiB")
        .early()
        .unhurried()
        .after(&[links::UNIT])
        // Not after etcd: it asks for etcd only seconds after it has begun, and then waits for it.
        .requires(&[runtime::MOUNT]);
    // In vain before its etcd has a vote.
    let unit = match inputs.is_first() {
        true => unit,
        false => unit.only_with(etcd::VOTER),
    };
    let mut wanted = Wanted::unit(files, unit);
    // Not among what a restart follows: the API server looks at this file by itself.
    wanted.files.push(client_authorities(pki));
    wanted
}

fn api_server_command(inputs: &Inputs<'_>, authentication: &str) -> Vec<String> {
    vec![
        binary("kube-apiserver"),
        format!("--advertise-address={}", inputs.node.ip),
        "--allow-privileged=true".into(),
        format!("--authentication-config={authentication}"),
        "--authorization-mode=Node,RBAC".into(),
        format!("--client-ca-file={CLIENT_AUTHORITIES}"),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--enable-bootstrap-token-auth=true".into(),
        format!("--etcd-servers={}", etcd::SOCKET_URL),
        GATES.into(),
        cert_option("kubelet-certificate-authority", CertName::Ca),
        cert_option(
            "kubelet-client-certificate",
            CertName::ApiserverKubeletClient,
        ),
        key_option("kubelet-client-key", CertName::ApiserverKubeletClient),
        // The node's name does not resolve anywhere: exec and logs must go by its address.
        "--kubelet-preferred-address-types=InternalIP".into(),
        cert_option("proxy-client-cert-file", CertName::FrontProxyClient),
        key_option("proxy-client-key-file", CertName::FrontProxyClient),
        "--requestheader-allowed-names=front-proxy-client".into(),
        cert_option("requestheader-client-ca-file", CertName::FrontProxyCa),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
        "--requestheader-group-headers=X-Remote-Group".into(),
        "--requestheader-username-headers=X-Remote-User".into(),
        format!("--secure-port={API_PORT}"),
        format!("--service-account-issuer={}", inputs.network.token_issuer()),
        format!("--service-account-key-file={}", service_account("pub")),
        format!(
            "--service-account-signing-key-file={}",
            service_account("key")
        ),
        format!("--service-cluster-ip-range={}", inputs.network.services),
    ]
}

/// Returns the options that let replicas choose a leader. One alone has no others to agree with, and would wait
/// for its old lease after a restart. The times are two and a half of the usual ones: each renewal is a write that a
/// majority has to put on its disks, and each look of the others is a read that they agree on.
fn leader_election(inputs: &Inputs<'_>) -> Vec<String> {
    if !inputs.has_several() {
        return vec!["--leader-elect=false".into()];
    }
    let options = [
        "--leader-elect=true",
        "--leader-elect-lease-duration=36s",
        "--leader-elect-renew-deadline=24s",
        "--leader-elect-retry-period=5s",
    ];
    options.map(str::to_owned).to_vec()
}

fn controller_manager(inputs: &Inputs<'_>) -> Wanted {
    let pki = inputs.pki;
    let kubeconfig = format!("{KUBERNETES_DIR}/controller-manager.conf");
    let ca_key = key_path(CertName::Ca);
    let mut files = vec![
        wanted::kubeconfig(&kubeconfig, pki, CertName::ControllerManager),
        // Signs certificate requests, such as a kubelet's.
        secret(&ca_key, pki.key(CertName::Ca)),
    ];
    files.extend(key_pair(pki, CertName::ControllerManagerServing));
    let mut command = vec![
        binary("kube-controller-manager"),
        // kubby says which pods' addresses each node has, since it also makes the routes.
        "--allocate-node-cidrs=false".into(),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--bind-address=127.0.0.1".into(),
        cert_option("client-ca-file", CertName::Ca),
        format!("--cluster-cidr={}", inputs.network.pods),
        cert_option("cluster-signing-cert-file", CertName::Ca),
        format!("--cluster-signing-key-file={ca_key}"),
        "--controllers=*,bootstrapsigner,tokencleaner".into(),
        // Each of its three dozen controllers asks for an account, a token and what it watches. The
        // default of 20 requests a second lets them wait for each other where the node has
        // processor to spare.
        "--kube-api-burst=300".into(),
        "--kube-api-qps=200".into(),
        format!("--kubeconfig={kubeconfig}"),
        cert_option("requestheader-client-ca-file", CertName::FrontProxyCa),
        cert_option("root-ca-file", CertName::Ca),
        format!(
            "--service-account-private-key-file={}",
            service_account("key")
        ),
        format!("--service-cluster-ip-range={}", inputs.network.services),
        "--use-service-account-credentials=true".into(),
    ];
    command.extend(leader_election(inputs));
    command.extend(serving(CertName::ControllerManagerServing));
    command.extend(inputs.extra_flags(Component::ControllerManager));
    let unit = Unit::service(
        "kube-controller-manager",
        "Kubernetes controller manager",
        &command,
    )
    // It gives up where the API has not made its roles within ten seconds, and begins again.
    .line("ExecStartPre", until_the_api_says("/readyz", 1))
    .line("TimeoutStartSec", "infinity")
    .unhurried()
    .requires(&[runtime::MOUNT])
    .after(&["kube-apiserver.service"])
    .late();
    Wanted::unit(files, unit)
}

fn scheduler(inputs: &Inputs<'_>) -> Wanted {
    let kubeconfig = format!("{KUBERNETES_DIR}/scheduler.conf");
    let mut files = vec![wanted::kubeconfig(
        &kubeconfig,
        inputs.pki,
        CertName::Scheduler,
    )];
    files.extend(key_pair(inputs.pki, CertName::SchedulerServing));
    let mut command = vec![
        binary("kube-scheduler"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--bind-address=127.0.0.1".into(),
        format!("--kubeconfig={kubeconfig}"),
    ];
    command.extend(leader_election(inputs));
    command.extend(serving(CertName::SchedulerServing));
    command.extend(inputs.extra_flags(Component::Scheduler));
    let unit = Unit::service("kube-scheduler", "Kubernetes scheduler", &command)
        .unhurried()
        .requires(&[runtime::MOUNT])
        .after(&["kube-apiserver.service"])
        .late();
    Wanted::unit(files, unit)
}
