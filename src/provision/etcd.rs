//! etcd: a socket that only root reaches, TLS on both sides of its ports, loopback only, every
//! acknowledged write on disk.

use super::{
    COMPONENTS_DIR, Inputs, Unit, Wanted, binary, certificate_path, key_pair, key_path, paths,
    public, runtime,
};
use crate::network::{ETCD_CLIENT_URL, ETCD_PEER_URL};
use crate::pki::CertName;

/// Where kube-apiserver reaches etcd: in a folder of root's with mode 0700, so the kernel says who
/// may. It has a connection for each kind of object, a hundred of them; with TLS their handshakes
/// and the sealing of each message cost an emulated node seconds of every start.
pub const SOCKET_URL: &str = "unix:///run/etcd/etcd.sock";

/// Its data in the node.
const DATA: &str = "/var/lib/etcd";

const SEED_SCRIPT: &str = "/usr/local/lib/kubby/seed-etcd";

/// Gives an etcd that has never run what the component volume has for it: the objects that each API
/// server makes for itself, which costs an emulated one ten seconds. Data that is there is left
/// alone; what goes wrong costs no more than those seconds.
fn seed_script() -> String {
    format!(
        r#"#!/bin/sh
# Usage: seed-etcd
# Takes the first objects of a cluster from the component volume over into an etcd that has never run.
set -eu
from={COMPONENTS_DIR}/etcd
member={DATA}/member
new=$member.new
[ -d $from/snap ] || exit 0
[ ! -e $member ] || exit 0
rm -rf $new
umask 077
mkdir $new $new/snap $new/wal
cp $from/snap/* $new/snap/
cp $from/wal/* $new/wal/
# The room that etcd makes for a log of its own, so that writing need not lengthen the file.
fallocate -l 64000000 $new/wal/*.wal
chmod -R u=rwX,go= $new
sync -f $new
mv -T $new $member
"#
    )
}

pub fn wanted(inputs: &Inputs<'_>) -> Wanted {
    let pki = inputs.pki;
    let mut files = vec![public(
        certificate_path(CertName::EtcdCa),
        pki.cert(CertName::EtcdCa),
    )];
    files.extend(key_pair(pki, CertName::EtcdServer));
    files.extend(key_pair(pki, CertName::EtcdPeer));
    let reads = paths(&files);
    // What a person names to etcdctl.
    files.extend(key_pair(pki, CertName::ApiserverEtcdClient));
    files.push(super::NodeFile {
        mode: 0o755,
        ..public(SEED_SCRIPT, seed_script())
    });
    let mut command = vec![binary("etcd")];
    command.extend(inputs.node.etcd_member(DATA));
    command.extend([
        format!("--listen-client-urls={SOCKET_URL},{ETCD_CLIENT_URL}"),
        format!("--listen-peer-urls={ETCD_PEER_URL}"),
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
        .early()
        .reads(reads);
    Wanted {
        files,
        units: vec![unit],
        ..Wanted::default()
    }
}
