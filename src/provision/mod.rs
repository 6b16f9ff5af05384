//! Turning a booted node into a Kubernetes node, over SSH.
//!
//! Each concern (runtime, etcd, control plane, node) is a file here that says which files and
//! systemd units it wants; [`apply()`] compares that with the node and changes only what differs,
//! so that running it again repairs what is missing and touches nothing else.

mod apply;
mod control_plane;
mod egress;
mod etcd;
mod node;
mod runtime;
mod unit;
mod verify;

pub use apply::{Applied, apply, settled, start_all};
pub use control_plane::operator_files;
pub use runtime::{BUILDKIT_SOCKET, CONTAINERD_SOCKET, NO_ARCHIVE, SEEDED_IMAGES, import_command};
pub use unit::Unit;
pub use verify::{PROCESSES, booted_at, crash_looping, journal_tail, verify};

use sha2::{Digest, Sha256};

use crate::assets::version::KubernetesVersion;
use crate::egress::Egress;
use crate::kubeconfig::{self, ComponentConfig};
use crate::network::{API_URL, Network, NodeNetwork};
use crate::pki::{CertName, Pki};
use crate::remote::NodeFile;
use crate::units::hex;

/// Where the component volume is mounted in the node.
pub const COMPONENTS_DIR: &str = "/opt/kubby";
/// Kubernetes' configuration in the node.
pub const KUBERNETES_DIR: &str = "/etc/kubernetes";
/// The systemd target that holds all of kubby's units.
pub const TARGET: &str = "kubby.target";
/// The systemd target that holds those of them that a new node begins with; the node starts it by
/// itself as soon as its seed has brought it.
pub const FIRST_TARGET: &str = "kubby-first.target";

/// What the plan depends on.
pub struct Inputs<'a> {
    /// The network of the cluster.
    pub network: &'a Network,
    /// The node that the plan is for.
    pub node: &'a NodeNetwork,
    /// Keys and certificates of the cluster.
    pub pki: &'a Pki,
    /// The sandbox image, as the component volume has it.
    pub pause_image: &'a str,
    /// The version of Kubernetes.
    pub version: KubernetesVersion,
    /// How the node reaches the world.
    pub egress: &'a Egress,
}

/// What a concern wants in the node.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Files with their modes.
    pub files: Vec<NodeFile>,
    /// systemd units; each becomes a file as well.
    pub units: Vec<Unit>,
    /// Files among them that need not be there while they are empty.
    pub optional: Vec<&'static str>,
    /// What else has to be done when files change.
    pub actions: Vec<Action>,
    /// Files to look for that nothing wants any more.
    pub tidy: Vec<Tidy>,
}

/// A command for when a file has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// The file.
    pub path: &'static str,
    /// The command.
    pub command: &'static str,
}

/// Files whose names depend on what they are about, so that the plan cannot name those of an
/// earlier plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tidy {
    /// A shell's pattern that finds them.
    pub pattern: &'static str,
    /// Their first line; a file without it is somebody else's.
    pub mark: &'static str,
}

/// Everything that is wanted in the node, in the order in which it is started.
pub fn plan(inputs: &Inputs<'_>) -> Wanted {
    let mut all = Wanted::default();
    for part in [
        egress::wanted(inputs),
        runtime::wanted(inputs),
        etcd::wanted(inputs),
        control_plane::wanted(inputs),
        node::wanted(inputs),
    ] {
        all.files.extend(part.files);
        all.units.extend(part.units);
        all.optional.extend(part.optional);
        all.actions.extend(part.actions);
        all.tidy.extend(part.tidy);
    }
    let targets = [unit::target(&all.units), unit::first_target(&all.units)];
    all.units.extend(targets);
    let unit_files: Vec<NodeFile> = all.units.iter().map(Unit::file).collect();
    all.files.extend(unit_files);
    all
}

/// A digest of all that a plan says; one made with [`Pki::blank`] leaves keys and certificates out.
pub fn digest(wanted: &Wanted) -> String {
    let mut digest = Sha256::new();
    for file in &wanted.files {
        for part in [file.path.as_bytes(), &file.content] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.update(file.mode.to_be_bytes());
    }
    hex(&digest.finalize())
}

/// The files that a new node may have before it is reached: all but those that somebody has to be
/// told of when they come.
pub fn before_boot(wanted: &Wanted) -> Vec<NodeFile> {
    let acted_on = |path: &str| wanted.actions.iter().any(|action| action.path == path);
    let left_out = |file: &NodeFile| {
        acted_on(&file.path)
            || file.content.is_empty() && wanted.optional.iter().any(|path| *path == file.path)
    };
    let files = wanted.files.iter().filter(|file| !left_out(file));
    files.cloned().collect()
}

/// A file that anybody may read.
fn public(path: impl Into<String>, content: impl Into<Vec<u8>>) -> NodeFile {
    NodeFile {
        path: path.into(),
        mode: 0o644,
        content: content.into(),
    }
}

/// A file that only root may read.
fn secret(path: impl Into<String>, content: impl Into<Vec<u8>>) -> NodeFile {
    NodeFile {
        path: path.into(),
        mode: 0o600,
        content: content.into(),
    }
}

/// The files of a certificate and its key in the node.
fn key_pair(pki: &Pki, name: CertName) -> [NodeFile; 2] {
    [
        public(certificate_path(name), pki.cert(name)),
        secret(key_path(name), pki.key(name)),
    ]
}

/// Where a certificate is in the node: laid out as kubeadm does it.
fn certificate_path(name: CertName) -> String {
    format!("{KUBERNETES_DIR}/pki/{}.crt", name.stem())
}

/// Where a certificate's key is in the node.
fn key_path(name: CertName) -> String {
    format!("{KUBERNETES_DIR}/pki/{}.key", name.stem())
}

/// The kubeconfig of a component in the node, at `path`.
fn kubeconfig(path: &str, pki: &Pki, name: CertName) -> NodeFile {
    let config = kubeconfig::render_component(&ComponentConfig {
        name: name.stem(),
        server: API_URL,
        ca_pem: pki.cert(CertName::Ca),
        cert_pem: pki.cert(name),
        key_pem: pki.key(name),
    });
    secret(path, config)
}

/// What a unit reads when it has these files.
fn paths(files: &[NodeFile]) -> Vec<String> {
    files.iter().map(|f| f.path.clone()).collect()
}

fn binary(name: &str) -> String {
    format!("{COMPONENTS_DIR}/bin/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{self, PkiSpec};

    fn wanted() -> Wanted {
        let dir = tempfile::tempdir().unwrap();
        let spec = PkiSpec::of_first_node(time::OffsetDateTime::now_utc());
        let pki = pki::ensure(&dir.path().join("pki"), &spec).unwrap();
        let network = Network::default();
        plan(&Inputs {
            network: &network,
            node: &network.first_node(),
            pki: &pki,
            pause_image: "registry.k8s.io/pause:3.10.2",
            version: crate::assets::version::DEFAULT,
            egress: &Egress::default(),
        })
    }

    #[test]
    fn keys_are_secret_and_nothing_is_listed_twice() {
        let wanted = wanted();
        let mut paths: Vec<&str> = wanted.files.iter().map(|f| f.path.as_str()).collect();
        for file in &wanted.files {
            let text = String::from_utf8_lossy(&file.content);
            if text.contains("PRIVATE KEY") || text.contains("client-key-data") {
                assert_eq!(file.mode, 0o600, "{}", file.path);
            }
            assert!(file.path.starts_with('/'), "{}", file.path);
        }
        paths.sort_unstable();
        let count = paths.len();
        paths.dedup();
        assert_eq!(paths.len(), count);
    }

    #[test]
    fn every_file_that_a_unit_reads_is_in_the_plan() {
        let wanted = wanted();
        for unit in &wanted.units {
            for path in &unit.reads {
                assert!(
                    wanted.files.iter().any(|f| f.path == *path),
                    "{}: {path}",
                    unit.name
                );
            }
        }
    }

    #[test]
    fn a_node_has_all_before_its_boot_but_what_somebody_has_to_be_told_of() {
        let wanted = wanted();
        let brought = before_boot(&wanted);
        for file in &wanted.files {
            let is_brought = brought.iter().any(|b| b.path == file.path);
            let acted_on = wanted.actions.iter().any(|a| a.path == file.path);
            let empty = wanted.optional.iter().any(|path| *path == file.path);
            assert_eq!(is_brought, !acted_on && !empty, "{}", file.path);
        }
        let first = format!("/etc/systemd/system/{FIRST_TARGET}");
        let first = brought.iter().find(|file| file.path == first).unwrap();
        let text = String::from_utf8_lossy(&first.content).into_owned();
        assert!(text.contains("kube-apiserver") && !text.contains("kube-scheduler"));
        assert!(!text.contains("WantedBy"), "{text}");
    }

    #[test]
    fn every_process_has_its_unit() {
        let wanted = wanted();
        for (process, unit) in PROCESSES {
            assert!(
                wanted.units.iter().any(|u| u.name == unit),
                "{process}: {unit}"
            );
        }
    }

    #[test]
    fn timers_are_shared_but_not_by_pods() {
        let wanted = wanted();
        for unit in &wanted.units {
            let starts_pods = ["containerd.service", "buildkit.service"].contains(&&*unit.name);
            let is_process = PROCESSES.iter().any(|(_, name)| *name == unit.name);
            let unhurried = unit.lines.iter().any(|(key, _)| *key == "TimerSlackNSec");
            assert_eq!(unhurried, is_process && !starts_pods, "{}", unit.name);
        }
    }

    #[test]
    fn what_the_node_is_told() {
        let wanted = wanted();
        let mut text = String::new();
        for file in &wanted.files {
            text.push_str(&format!("--- {} {:o}\n", file.path, file.mode));
            let secret =
                file.mode == 0o600 || file.path.ends_with(".crt") || file.path.ends_with(".pub");
            if !secret {
                text.push_str(&String::from_utf8_lossy(&file.content));
            }
        }
        insta::assert_snapshot!(text);
    }
}
