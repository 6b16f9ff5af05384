//! The parts of a plan: files and units, and how certificates and programs are named in a node.

use super::unit::Unit;
use crate::assets::version::KubernetesVersion;
use crate::egress::Egress;
use crate::kubeconfig::{self, ComponentConfig};
use crate::network::{API_URL, Network, NodeNetwork};
use crate::pki::{CertName, Pki};
use crate::remote::NodeFile;
use crate::role::Role;

/// The folder in the node where the component volume is mounted.
pub(crate) const COMPONENTS_DIR: &str = "/opt/kubby";
/// Kubernetes' configuration in the node.
pub(crate) const KUBERNETES_DIR: &str = "/etc/kubernetes";
/// The inputs of a plan.
pub(crate) struct Inputs<'a> {
    /// The network of the cluster.
    pub network: &'a Network,
    /// The node that the plan is for.
    pub node: &'a NodeNetwork,
    /// The node's part in the cluster.
    pub role: Role,
    /// Keys and certificates of the cluster.
    pub pki: &'a Pki,
    /// The sandbox image, as the component volume has it.
    pub pause_image: &'a str,
    /// The version of Kubernetes.
    pub version: KubernetesVersion,
    /// The node's registries, proxies, authorities and name servers.
    pub egress: &'a Egress,
}

/// The files and units that a concern wants in the node.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// Files with their modes.
    pub files: Vec<NodeFile>,
    /// systemd units; each becomes a file as well.
    pub units: Vec<Unit>,
    /// Files among them that need not be there while they are empty.
    pub optional: Vec<&'static str>,
    /// Commands to run when files change.
    pub actions: Vec<Action>,
    /// Files to look for that nothing wants any more.
    pub tidy: Vec<Tidy>,
}

/// A command for when a file has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Action {
    /// The file.
    pub path: &'static str,
    /// The command.
    pub command: &'static str,
}

/// Files whose names depend on what they are about, so that the plan cannot name those of an
/// earlier plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tidy {
    /// A shell's pattern that finds them.
    pub pattern: &'static str,
    /// Their first line; a file without it is not kubby's.
    pub mark: &'static str,
}

impl Wanted {
    /// Returns a unit and the files that it reads.
    pub(super) fn unit(files: Vec<NodeFile>, unit: Unit) -> Self {
        let paths: Vec<_> = files.iter().map(|f| f.path.clone()).collect();
        Wanted {
            files,
            units: vec![unit.reads(paths)],
            ..Wanted::default()
        }
    }

    /// Adds another concern's files and units.
    pub(super) fn add(&mut self, part: Wanted) {
        self.files.extend(part.files);
        self.units.extend(part.units);
        self.optional.extend(part.optional);
        self.actions.extend(part.actions);
        self.tidy.extend(part.tidy);
    }
}

/// Returns a file that every user may read.
pub(super) fn public(path: impl Into<String>, content: impl Into<Vec<u8>>) -> NodeFile {
    NodeFile::new(path, 0o644, content)
}

/// Returns a file that only root may read.
pub(super) fn secret(path: impl Into<String>, content: impl Into<Vec<u8>>) -> NodeFile {
    NodeFile::new(path, 0o600, content)
}

/// Returns a script that every user may run.
pub(super) fn script(path: &str, content: &str) -> NodeFile {
    NodeFile::new(path, 0o755, content)
}

/// Returns the files of a certificate and its key in the node.
pub(super) fn key_pair(pki: &Pki, name: CertName) -> [NodeFile; 2] {
    [
        public(certificate_path(name), pki.cert(name)),
        secret(key_path(name), pki.key(name)),
    ]
}

/// Returns the path of a certificate in the node: laid out as kubeadm does it.
pub(super) fn certificate_path(name: CertName) -> String {
    format!("{KUBERNETES_DIR}/pki/{}.crt", name.stem())
}

/// Returns the path of a certificate's key in the node.
pub(super) fn key_path(name: CertName) -> String {
    format!("{KUBERNETES_DIR}/pki/{}.key", name.stem())
}

/// Returns a program's option that takes a certificate's file.
pub(super) fn cert_option(name: &str, cert: CertName) -> String {
    format!("--{name}={}", certificate_path(cert))
}

/// Returns a program's option that takes a key's file.
pub(super) fn key_option(name: &str, cert: CertName) -> String {
    format!("--{name}={}", key_path(cert))
}

/// Returns the kubeconfig of a component in the node, at `path`.
pub(super) fn kubeconfig(path: &str, pki: &Pki, name: CertName) -> NodeFile {
    let config = kubeconfig::render_component(&ComponentConfig {
        name: name.stem(),
        server: API_URL,
        ca_pem: pki.cert(CertName::Ca),
        cert_pem: pki.cert(name),
        key_pem: pki.key(name),
    });
    secret(path, config)
}

pub(super) fn binary(name: &str) -> String {
    format!("{COMPONENTS_DIR}/bin/{name}")
}
