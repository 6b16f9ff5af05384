//! etcd: a socket that only root reaches, TLS on both sides of its ports, loopback only, every
//! acknowledged write on disk.

use super::line::FIREWALL_RELOAD;
use super::links;
use super::runtime;
use super::unit::Unit;
use super::wanted::{
    Action, Inputs, Wanted, binary, cert_option, certificate_path, key_option, key_pair, public,
    script,
};
use crate::extra_config::Component;
use crate::network::{ETCD_CLIENT_URL, ETCD_PEER_PORT, ETCD_PEER_URL};
use crate::pki::CertName;

/// The socket at which kube-apiserver reaches etcd: in a folder of root's with mode 0700, so the
/// kernel says who may. It has a connection for each kind of object, a hundred of them; with TLS
/// their handshakes and the sealing of each message cost an emulated node seconds of every start.
pub(super) const SOCKET_URL: &str = "unix:///run/etcd/etcd.sock";

/// Its data in the node.
pub(super) const DATA: &str = "/var/lib/etcd";

/// The members that a new etcd joins, as its environment.
pub(super) const MEMBERS: &str = "/etc/kubby/etcd.env";

/// The sign that an etcd that joined others has its vote.
pub(super) const VOTER: &str = "/etc/kubby/etcd-voter";

/// The rules in front of the port of members; `nftables.conf` includes it.
const FIREWALL: &str = "/etc/kubby/nftables.d/etcd.nft";

const SEED_SCRIPT: &str = "/usr/local/lib/kubby/seed-etcd";

pub(super) fn wanted(inputs: &Inputs<'_>) -> Wanted {
    let pki = inputs.pki;
    let mut files = vec![public(
        certificate_path(CertName::EtcdCa),
        pki.cert(CertName::EtcdCa),
    )];
    files.extend(key_pair(pki, CertName::EtcdServer));
    files.extend(key_pair(pki, CertName::EtcdPeer));
    let unit = Unit::service("etcd", "etcd, the store of Kubernetes", &command(inputs))
        .line("Type", "notify")
        .line("TimeoutStartSec", "300")
        .line("StateDirectory", "etcd")
        .line("StateDirectoryMode", "0700")
        .line("RuntimeDirectory", "etcd")
        .line("RuntimeDirectoryMode", "0700")
        .line("OOMScoreAdjust", "-997")
        .unhurried()
        .requires(&[runtime::MOUNT])
        .early();
    let unit = match inputs.is_first() {
        true => {
            let unit = unit.line("ExecStartPre", format!("-{SEED_SCRIPT}"));
            match inputs.has_several() {
                true => unit.after(&[links::UNIT]),
                false => unit,
            }
        }
        // Without the others it would begin a cluster of its own.
        false => unit
            .line("EnvironmentFile", MEMBERS)
            .only_with(MEMBERS)
            .after(&[links::UNIT]),
    };
    let mut wanted = Wanted::unit(files, unit);
    wanted.files.push(public(FIREWALL, firewall(inputs)));
    wanted.optional.push(FIREWALL);
    wanted.actions.push(Action::new(FIREWALL, FIREWALL_RELOAD));
    // What a person names to etcdctl.
    wanted
        .files
        .extend(key_pair(pki, CertName::ApiserverEtcdClient));
    if !inputs.is_first() {
        return wanted;
    }
    // Gives an etcd that has never run what the component volume has for it: the objects that each
    // API server makes for itself, which costs an emulated one ten seconds. Data that is there is
    // left alone; a failure costs no more than those seconds.
    wanted
        .files
        .push(script(SEED_SCRIPT, include_str!("files/seed-etcd")));
    wanted
}

fn command(inputs: &Inputs<'_>) -> Vec<String> {
    let mut command = vec![binary("etcd")];
    match inputs.is_first() {
        true => command.extend(inputs.node.etcd_member(DATA)),
        false => command.extend(inputs.node.joining_etcd_member(DATA)),
    }
    command.extend(peers(inputs));
    command.extend([
        format!("--listen-client-urls={SOCKET_URL},{ETCD_CLIENT_URL}"),
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
    command.extend(inputs.extra_flags(Component::Etcd));
    command
}

/// Returns the options about other members. An emulated node may be late by more than the tenth of a second
/// that is usual between signs of life.
fn peers(inputs: &Inputs<'_>) -> Vec<String> {
    if !inputs.has_several() {
        return vec![format!("--listen-peer-urls={ETCD_PEER_URL}")];
    }
    let own = inputs.node.etcd_peer_url();
    vec![
        format!("--listen-peer-urls={ETCD_PEER_URL},{own}"),
        "--heartbeat-interval=300".into(),
        "--election-timeout=3000".into(),
    ]
}

/// Lets only other control planes reach the port of members, besides the node itself: not pods.
fn firewall(inputs: &Inputs<'_>) -> String {
    if !inputs.has_several() {
        return String::new();
    }
    let members = inputs.control_planes.iter().map(|node| node.ip.to_string());
    let members = members.collect::<Vec<_>>().join(", ");
    format!(
        "# The members of etcd.\n\
         add chain inet kubby etcd {{ type filter hook input priority filter; policy accept; }}\n\
         add rule inet kubby etcd iifname != \"lo\" tcp dport {ETCD_PEER_PORT} ip saddr != {{ {members} }} drop\n"
    )
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
