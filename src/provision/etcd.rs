//! etcd: TLS on both sides, loopback only, every acknowledged write on disk.

use super::{
    Inputs, NODE_NAME, Unit, Wanted, binary, certificate_path, key_pair, key_path, paths, public,
    runtime,
};
use crate::pki::CertName;

/// Where kube-apiserver reaches etcd.
pub const CLIENT_URL: &str = "https://127.0.0.1:2379";
const PEER_URL: &str = "https://127.0.0.1:2380";

pub fn wanted(inputs: &Inputs<'_>) -> Wanted {
    let pki = inputs.pki;
    let mut files = vec![public(
        certificate_path(CertName::EtcdCa),
        pki.cert(CertName::EtcdCa),
    )];
    files.extend(key_pair(pki, CertName::EtcdServer));
    files.extend(key_pair(pki, CertName::EtcdPeer));
    let reads = paths(&files);
    let command = vec![
        binary("etcd"),
        format!("--name={NODE_NAME}"),
        "--data-dir=/var/lib/etcd".into(),
        format!("--listen-client-urls={CLIENT_URL}"),
        format!("--advertise-client-urls={CLIENT_URL}"),
        format!("--listen-peer-urls={PEER_URL}"),
        format!("--initial-advertise-peer-urls={PEER_URL}"),
        format!("--initial-cluster={NODE_NAME}={PEER_URL}"),
        format!("--cert-file={}", certificate_path(CertName::EtcdServer)),
        format!("--key-file={}", key_path(CertName::EtcdServer)),
        "--client-cert-auth=true".into(),
        format!("--trusted-ca-file={}", certificate_path(CertName::EtcdCa)),
        format!("--peer-cert-file={}", certificate_path(CertName::EtcdPeer)),
        format!("--peer-key-file={}", key_path(CertName::EtcdPeer)),
        "--peer-client-cert-auth=true".into(),
        format!(
            "--peer-trusted-ca-file={}",
            certificate_path(CertName::EtcdCa)
        ),
        "--logger=zap".into(),
        "--log-level=warn".into(),
        // On a laptop or under emulation a slow request is no news, and writing that down costs
        // the CPU that made it slow.
        "--warning-apply-duration=2s".into(),
        "--warning-unary-request-duration=5s".into(),
    ];
    let unit = Unit::service("etcd", "etcd, the store of Kubernetes", &command)
        .line("Type", "notify")
        .line("TimeoutStartSec", "300")
        .line("StateDirectory", "etcd")
        .line("StateDirectoryMode", "0700")
        .line("OOMScoreAdjust", "-997")
        .requires(&[runtime::MOUNT])
        .early()
        .reads(reads);
    Wanted {
        files,
        units: vec![unit],
        ..Wanted::default()
    }
}
