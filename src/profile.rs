//! A profile: the settings of one cluster, and the record of its nodes, as kept on disk. The state of
//! the machines is asked of libvirt.

#[cfg(test)]
mod example;
pub(crate) mod migrate;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

use crate::assets::version::KubernetesVersion;
use crate::cni::Cni;
use crate::egress;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::extra_config::Setting;
use crate::fsutil;
use crate::host_port::HostPort;
use crate::hypervisor::{Acceleration, PortForward, Protocol};
use crate::network::{Network, NodeNetwork};
use crate::role::Role;
use crate::store::ProfileDir;
#[cfg(test)]
pub(crate) use example::example;
use migrate::Refusal;

pub use crate::name::ProfileName;
pub use migrate::FILE_VERSION;

/// The file `profile.toml`. A field that this version does not know is an error, so that it is not
/// lost: only a newer kubby writes one. Files of earlier versions are migrated when they are read; a
/// change of this type needs a new version and a migration step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// [`FILE_VERSION`] of the kubby that wrote the file.
    pub version: u32,
    /// The version of that kubby, for people.
    pub kubby: String,
    /// The profile's name.
    pub name: ProfileName,
    /// The libvirt connection URI.
    pub connect: String,
    /// The kubeconfig file that has the context.
    pub kubeconfig: PathBuf,
    /// The settings of the whole cluster.
    pub spec: ClusterSpec,
    /// The assets that the cluster consists of.
    pub assets: Assets,
    /// The port on 127.0.0.1 of the program that leads to whichever control plane is ready; a cluster with one
    /// control plane has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<u16>,
    /// The nodes, the first control plane first. Never empty.
    #[serde(rename = "node")]
    pub nodes: Vec<NodeProfile>,
    /// Ports on the host's loopback that lead to Services.
    #[serde(default, rename = "forward", skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<ServiceForward>,
    /// Ports of the host's loopback that are open to the cluster.
    #[serde(default, rename = "host_port", skip_serializing_if = "Vec::is_empty")]
    pub opened: Vec<HostPort>,
}

/// The settings of a whole cluster, which a restore takes over and a template's key contains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSpec {
    /// Kubernetes version with `v`.
    pub kubernetes_version: String,
    /// The enabled add-ons, in the order in which they were enabled.
    pub addons: Vec<String>,
    /// The source of pods' network.
    #[serde(default, skip_serializing_if = "Cni::is_own")]
    pub cni: Cni,
    /// The user's settings of Kubernetes' components.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_config: Vec<Setting>,
    /// The user's settings of registries, proxies, certificate authorities and name servers.
    #[serde(default, skip_serializing_if = "egress::Settings::is_empty")]
    pub egress: egress::Settings,
}

/// The settings of one node's machine, which a restore takes over and a template's key contains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSpec {
    /// Hardware virtualisation or software emulation.
    pub acceleration: Acceleration,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Size of the disk in MiB.
    pub disk_mib: u64,
    /// Extra kernel arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel_args: Vec<String>,
}

/// One node and its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeProfile {
    /// The name of the Node object.
    pub name: String,
    /// The node's role.
    pub role: Role,
    /// The number from which its addresses follow; no other node of the cluster has it.
    pub number: u8,
    /// The UUID of the libvirt domain: a domain of the same name with another UUID is not ours.
    pub uuid: String,
    /// The volume with the node's disk.
    pub disk: String,
    /// The settings of the machine.
    pub machine: MachineSpec,
    /// Ports on the host's loopback that lead into the node.
    pub ports: Ports,
}

/// Keys of the assets in use; they name the shared volumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Assets {
    /// Key of the node image; empty until it is known.
    pub node_image: String,
    /// Key of the component volume; empty until it is known.
    pub components: String,
    /// The sandbox image in the component volume, such as `registry.k8s.io/pause:3.10.2`.
    pub pause_image: String,
    /// The kubectl of this version on the host.
    pub kubectl: PathBuf,
}

/// Ports on 127.0.0.1 that lead into the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ports {
    /// To the node's SSH server.
    pub ssh: u16,
    /// To kube-apiserver; a worker has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<u16>,
    /// The UDP port at which the other nodes reach it; the only node of a cluster has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<u16>,
}

/// A port on 127.0.0.1 that leads to a port of a Service, kept so that the same Service has the
/// same address after a stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceForward {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub service: String,
    /// The Service's own port.
    pub port: u16,
    /// The transport of all three ports.
    pub protocol: Protocol,
    /// The port on the host's loopback.
    pub host: u16,
    /// The port in the node.
    pub node: u16,
}

impl ServiceForward {
    /// The rule for the virtual machine.
    pub fn rule(&self) -> PortForward {
        PortForward {
            protocol: self.protocol,
            host: self.host,
            guest: self.node,
        }
    }
}

impl NodeProfile {
    /// Returns its name and addresses in the cluster's network.
    pub(crate) fn addresses(&self) -> NodeNetwork {
        Network::default().node(&self.name, self.number)
    }

    /// Returns the domain's UUID.
    ///
    /// # Errors
    /// [`Kind::State`] when it is damaged in the file.
    pub fn uuid(&self) -> Result<uuid::Uuid> {
        self.uuid.parse().context(Kind::State, || {
            format!(
                "the node `{}` has a damaged UUID in its profile: {}",
                self.name, self.uuid
            )
        })
    }
}

impl Profile {
    /// Returns whether pods get a network only from a plugin that the user installs at some time.
    pub(crate) fn lacks_network(&self) -> bool {
        self.spec.cni == Cni::None
    }

    /// Returns the node that a cluster begins with: its first control plane.
    pub fn first(&self) -> &NodeProfile {
        &self.nodes[0]
    }

    /// Returns the same for changes.
    pub fn first_mut(&mut self) -> &mut NodeProfile {
        &mut self.nodes[0]
    }

    /// Returns its nodes of a role, in their order.
    pub(crate) fn of_role(&self, role: Role) -> impl Iterator<Item = &NodeProfile> {
        self.nodes.iter().filter(move |node| node.role == role)
    }

    /// Returns whether it has several control planes.
    pub(crate) fn has_several_control_planes(&self) -> bool {
        self.of_role(Role::ControlPlane).count() > 1
    }

    /// Returns the same with some of its nodes only, which are given by their indices.
    pub(crate) fn with_nodes(&self, nodes: &[usize]) -> Self {
        Profile {
            nodes: nodes.iter().map(|node| self.nodes[*node].clone()).collect(),
            ..self.clone()
        }
    }

    /// Returns all ports on the host's loopback that this cluster uses when it runs.
    pub fn host_ports(&self) -> Vec<u16> {
        let nodes = self.nodes.iter();
        let own = nodes.flat_map(|node| {
            let ports = node.ports;
            [ports.api, Some(ports.ssh), ports.link]
        });
        own.flatten()
            .chain(self.forwards.iter().map(|f| f.host))
            .chain(self.endpoint)
            .collect()
    }

    /// Returns the URL of kube-apiserver on this host.
    pub fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.api_port())
    }

    /// Returns the port on the host's loopback that leads to kube-apiserver.
    pub fn api_port(&self) -> u16 {
        let own = self.first().ports.api;
        self.endpoint.or(own).unwrap_or_default()
    }

    /// Returns the version of Kubernetes.
    ///
    /// # Errors
    /// [`Kind::State`] when it is damaged in the file.
    pub fn version(&self) -> Result<KubernetesVersion> {
        self.spec.kubernetes_version.parse().map_err(|why: String| {
            Error::state(format!(
                "the profile `{}` has a damaged version: {why}",
                self.name
            ))
        })
    }

    /// Reads a profile's file; `None` where the profile does not exist.
    ///
    /// # Errors
    /// [`Kind::State`] for a file that is damaged or from a newer kubby.
    pub fn load(dir: &ProfileDir) -> Result<Option<Self>> {
        let path = dir.profile();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => {
                return Err(e).context(Kind::State, || format!("cannot read {}", path.display()));
            }
        };
        let profile = Self::parse(&text).map_err(|e| match e {
            Refusal::Newer(version) => Error::state(format!("{} {}", path.display(), newer(version)),
            )
            .with_hint("use that newer kubby for this profile, or choose another with --profile"),
            Refusal::Damaged(why) => {
                Error::state(format!("the profile file {} is damaged", path.display()))
                    .with_detail("the parser says", why)
                    .with_hint("`kubby delete` removes the profile with all that belongs to it; or mend the file by hand")
            }
        })?;
        Ok(Some(profile))
    }

    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        let damaged = |e: toml::de::Error| Refusal::Damaged(e.to_string());
        let table: toml::Table = toml::from_str(text).map_err(damaged)?;
        let profile: Self = if migrate::version(&table)? == FILE_VERSION {
            // From the text itself, so that the parser's message names a line.
            toml::from_str(text).map_err(damaged)?
        } else {
            migrate::migrate(table)?.try_into().map_err(damaged)?
        };
        match profile.nodes.first() {
            Some(first) if first.role == Role::ControlPlane && first.ports.api.is_some() => {
                Ok(profile)
            }
            _ => Err(Refusal::Damaged(
                "its first node is not a control plane".into(),
            )),
        }
    }

    /// Reads a profile that is a part of something else, of this or of an earlier version. It may have a
    /// worker only, as that of a worker's template.
    ///
    /// # Errors
    /// The deserializer's own, with the reason.
    pub fn deserialize_any_version<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let table = migrate::migrate(toml::Table::deserialize(from)?).map_err(|e| match e {
            Refusal::Newer(version) => D::Error::custom(format!("its profile {}", newer(version))),
            Refusal::Damaged(why) => D::Error::custom(why),
        })?;
        let profile: Self = table.try_into().map_err(D::Error::custom)?;
        match profile.nodes.is_empty() {
            true => Err(D::Error::custom("it has no node")),
            false => Ok(profile),
        }
    }

    /// Writes the profile's file atomically, 0600. A file of an earlier version stays beside it,
    /// as `profile.toml.v1`, for those who go back to an earlier kubby.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the file system refuses.
    pub fn save(&self, dir: &ProfileDir) -> Result<()> {
        let text = toml::to_string_pretty(self)
            .context(Kind::Internal, || "cannot render the profile".into())?;
        fsutil::create_private_dir(dir.root())?;
        if let Some((version, earlier)) = earlier(dir) {
            fsutil::write_atomic(&dir.earlier_profile(version), earlier.as_bytes(), 0o600)?;
        }
        fsutil::write_atomic(&dir.profile(), text.as_bytes(), 0o600)
    }
}

/// The profile's file with its version, where that is an earlier one.
pub(crate) fn earlier(dir: &ProfileDir) -> Option<(u32, String)> {
    let text = std::fs::read_to_string(dir.profile()).ok()?;
    let version = migrate::version(&toml::from_str(&text).ok()?).ok()?;
    (version < FILE_VERSION).then_some((version, text))
}

/// Returns the message about a file with a version that is not known yet.
pub(crate) fn newer(version: u32) -> String {
    format!(
        "was written by a newer kubby (file version {version}; this one knows up to {FILE_VERSION})"
    )
}
