//! The parts of a plan: files and units, and how certificates and programs are named in a node.

use super::unit::Unit;
use crate::assets::version::KubernetesVersion;
use crate::cni::Cni;
use crate::egress::Egress;
use crate::extra_config::{self, Component, Setting};
use crate::host_port::HostPort;
use crate::kubeconfig::{self, ComponentConfig};
use crate::network::{API_URL, Network, NodeNetwork};
use crate::pki::{CertName, Pki};
use crate::remote::{NodeFile, quote};
use crate::role::Role;

/// The folder in the node where the component volume is mounted.
pub(crate) const COMPONENTS_DIR: &str = "/opt/kubby";
/// Kubernetes' configuration in the node.
pub(crate) const KUBERNETES_DIR: &str = "/etc/kubernetes";
/// Another node, as this one reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its name and addresses.
    pub node: NodeNetwork,
    /// Its public key, Base64.
    pub public_key: String,
    /// The UDP port on the host's 127.0.0.1 that leads to it.
    pub port: u16,
}

/// The links of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Links {
    /// The node's private key, Base64; empty for the only node of a cluster.
    pub private_key: String,
    /// The other nodes.
    pub peers: Vec<Peer>,
}

/// The inputs of a plan.
pub(crate) struct Inputs<'a> {
    /// The network of the cluster.
    pub network: &'a Network,
    /// The node that the plan is for.
    pub node: &'a NodeNetwork,
    /// The node's part in the cluster.
    pub role: Role,
    /// The links to the other nodes.
    pub links: &'a Links,
    /// The control planes of the cluster, this node included if it is one.
    pub control_planes: &'a [NodeNetwork],
    /// Keys and certificates of the cluster.
    pub pki: &'a Pki,
    /// The sandbox image, as the component volume has it.
    pub pause_image: &'a str,
    /// The source of pods' network.
    pub cni: Cni,
    /// The ports of the host's loopback that are open to the cluster.
    pub host_ports: &'a [HostPort],
    /// The user's settings of components.
    pub extra_config: &'a [Setting],
    /// The version of Kubernetes.
    pub version: KubernetesVersion,
    /// The node's registries, proxies, authorities and name servers.
    pub egress: &'a Egress,
}

impl Inputs<'_> {
    /// Returns whether the node is the cluster's first, whose etcd begins the cluster.
    pub(super) fn is_first(&self) -> bool {
        self.control_planes.first() == Some(self.node)
    }

    /// Returns the flags that the user sets of a component.
    pub(super) fn extra_flags(&self, component: Component) -> Vec<String> {
        extra_config::flags(self.extra_config, component)
    }

    /// Returns the flags of the user that programs of this node get.
    pub(super) fn checks(&self) -> Vec<Check> {
        let of_role = |component: &Component| match self.role {
            Role::ControlPlane => true,
            Role::Worker => *component == Component::Kubelet,
        };
        // kube-proxy reads a configuration instead, and has no way to check one.
        let components = Component::ALL.into_iter().filter(of_role);
        let components = components.filter(|component| *component != Component::Proxy);
        let checks = components.map(|component| Check {
            program: component.program(),
            flags: self.extra_flags(component),
        });
        checks.filter(|check| !check.flags.is_empty()).collect()
    }

    /// Returns whether there are several control planes, which choose the one that leads.
    pub(super) fn has_several(&self) -> bool {
        self.control_planes.len() > 1
    }
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
    /// The flags that programs are asked about before files change.
    pub checks: Vec<Check>,
    /// Files to look for that nothing wants any more.
    pub tidy: Vec<Tidy>,
}

/// The flags that the user sets of a program, which is asked whether it takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    /// The program's name.
    pub program: &'static str,
    /// The flags.
    pub flags: Vec<String>,
}

impl Check {
    /// Returns the command that fails where the program does not take the flags: it reads them all before it
    /// prints its version.
    pub(super) fn command(&self) -> String {
        let flags: String = self.flags.iter().map(|flag| quote(flag) + " ").collect();
        format!("{} {flag}--version", binary(self.program), flag = flags)
    }
}

/// A command for when a file has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Action {
    /// The file.
    pub path: &'static str,
    /// The command.
    pub command: &'static str,
}

impl Action {
    /// Returns the command for when the file at `path` has changed.
    pub(super) const fn new(path: &'static str, command: &'static str) -> Self {
        Action { path, command }
    }
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

impl Tidy {
    /// Returns the script that removes files that an earlier plan has left, by the shell's own means: nothing is
    /// run for it.
    pub(super) fn script(&self, wanted: &Wanted) -> String {
        let files = wanted.files.iter();
        let keep: Vec<String> = files.map(|file| quote(&file.path)).collect();
        format!(
            "for file in {}; do\n[ -f \"$file\" ] || continue\n\
             IFS= read -r line < \"$file\" || continue\n[ \"$line\" = {} ] || continue\n\
             case \"$file\" in {}) ;; *) rm -f -- \"$file\" ;; esac\ndone",
            self.pattern,
            quote(self.mark),
            keep.join("|"),
        )
    }
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

/// Returns the command of a unit that waits until the API says "ok" at this path; it asks each time after `every` seconds.
pub(super) fn until_the_api_says(path: &str, every: u32) -> String {
    let curl = format!(
        "curl -sf -o /dev/null --max-time 5 --cacert {} \"{API_URL}{path}\"",
        certificate_path(CertName::Ca)
    );
    format!("/bin/sh -c 'until {curl}; do sleep {every}; done'")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_asked_by_its_own_parser() {
        let check = Check {
            program: "kubelet",
            flags: vec!["--max-pods=42".into(), "--a=b c".into()],
        };
        let command = "/opt/kubby/bin/kubelet --max-pods=42 '--a=b c' --version";
        assert_eq!(check.command(), command);
    }

    #[test]
    fn what_an_earlier_plan_has_left_goes() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        };
        let kept = write("a b/hosts.toml", "# ours\nserver\n");
        let stale = write("c/hosts.toml", "# ours\nserver\n");
        let foreign = write("d/hosts.toml", "server\n");
        let wanted = Wanted {
            files: vec![NodeFile::new(kept.display().to_string(), 0o644, "x")],
            ..Wanted::default()
        };
        let pattern = format!("{}/*/*", dir.path().display()).leak();
        let tidy = Tidy {
            pattern,
            mark: "# ours",
        };
        let status = std::process::Command::new("sh")
            .args(["-euc", &tidy.script(&wanted)])
            .status()
            .unwrap();
        assert!(status.success());
        assert!(kept.exists() && foreign.exists() && !stale.exists());
    }
}
