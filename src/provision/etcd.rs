//! etcd: a socket that only root reaches, TLS on both sides of its ports, loopback only, every
//! acknowledged write on disk.

use super::runtime;
use super::unit::Unit;
use super::wanted::{
    Inputs, Wanted, binary, cert_option, certificate_path, key_option, key_pair, public, script,
};
use crate::network::{ETCD_CLIENT_URL, ETCD_PEER_URL};
use crate::pki::CertName;

/// The socket at which kube-apiserver reaches etcd: in a folder of root's with mode 0700, so the
/// kernel says who may. It has a connection for each kind of object, a hundred of them; with TLS
/// their handshakes and the sealing of each message cost an emulated node seconds of every start.
pub(super) const SOCKET_URL: &str = "unix:///run/etcd/etcd.sock";

/// Its data in the node.
const DATA: &str = "/var/lib/etcd";

const SEED_SCRIPT: &str = "/usr/local/lib/kubby/seed-etcd";

pub(super) fn wanted(inputs: &Inputs<'_>) -> Wanted {
    let pki = inputs.pki;
    let mut files = vec![public(
        certificate_path(CertName::EtcdCa),
        pki.cert(CertName::EtcdCa),
    )];
    files.extend(key_pair(pki, CertName::EtcdServer));
    files.extend(key_pair(pki, CertName::EtcdPeer));
    let mut command = vec![binary("etcd")];
    command.extend(inputs.node.etcd_member(DATA));
    command.extend([
        format!("--listen-client-urls={SOCKET_URL},{ETCD_CLIENT_URL}"),
        format!("--listen-peer-urls={ETCD_PEER_URL}"),
        cert_option("cert-file", CertName::EtcdServer),
        key_option("key-file", CertName::EtcdServer),
        "--client-cert-auth=true".into(),
        cert_option("trusted-ca-file", CertName::EtcdCa),
        cert_option("peer-cert-file", CertName::EtcdPeer),
        key_option("peer-key-file", CertName::EtcdPeer),
        "--peer-client-cert-auth=true".into(),
        cert_option("peer-trusted-ca-file", CertName::EtcdCa),
        "--logger=zap".into(),
        "--log-level=warn".into(),
        // On a laptop or under emulation a slow request is expected, and logging it costs the CPU
        // that made it slow.
        "--warning-apply-duration=2s".into(),
        "--warning-unary-request-duration=5s".into(),
    ]);
    let unit = Unit::service("etcd", "etcd, the store of Kubernetes", &command)
        .line("Type", "notify")
        .line("TimeoutStartSec", "300")
        .line("StateDirectory", "etcd")
        .line("StateDirectoryMode", "0700")
        .line("RuntimeDirectory", "etcd")
        .line("RuntimeDirectoryMode", "0700")
        .line("ExecStartPre", format!("-{SEED_SCRIPT}"))
        .line("OOMScoreAdjust", "-997")
        .unhurried()
        .requires(&[runtime::MOUNT])
        .early();
    let mut wanted = Wanted::unit(files, unit);
    // What a person names to etcdctl.
    wanted
        .files
        .extend(key_pair(pki, CertName::ApiserverEtcdClient));
    // Gives an etcd that has never run what the component volume has for it: the objects that each
    // API server makes for itself, which costs an emulated one ten seconds. Data that is there is
    // left alone; a failure costs no more than those seconds.
    wanted
        .files
        .push(script(SEED_SCRIPT, include_str!("files/seed-etcd")));
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provision::wanted::COMPONENTS_DIR;

    #[test]
    fn the_script_has_the_same_paths_as_the_code() {
        let seed = include_str!("files/seed-etcd");
        assert!(seed.contains(&format!("from={COMPONENTS_DIR}/etcd\n")));
        assert!(seed.contains(&format!("member={DATA}/member\n")));
    }
}
