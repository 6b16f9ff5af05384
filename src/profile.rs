//! A profile: what is wanted of one cluster, as kept on disk. What is there is asked of libvirt.

pub(crate) mod migrate;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

use crate::assets::version::KubernetesVersion;
use crate::egress;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil;
use crate::hypervisor::{PortForward, Protocol};
use crate::store::ProfileDir;
use migrate::Refusal;

pub use crate::name::{DEFAULT_PROFILE, ProfileName};
pub use migrate::FILE_VERSION;

/// The file `profile.toml`. Fields that this version does not know are an error rather than
/// lost: only a newer kubby writes them. Files of earlier versions are brought to this one when
/// they are read; who changes what is in it makes a new version, and a step to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// [`FILE_VERSION`] of the kubby that wrote the file.
    pub version: u32,
    /// The version of that kubby, for people.
    pub kubby: String,
    /// The profile's name.
    pub name: ProfileName,
    /// The UUID of the libvirt domain: a domain with our name and another UUID is not ours.
    pub uuid: String,
    /// The libvirt connection URI.
    pub connect: String,
    /// `kvm` or `tcg`.
    pub acceleration: String,
    /// Kubernetes version with `v`.
    pub kubernetes_version: String,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Size of the node's disk in MiB.
    pub disk_mib: u64,
    /// The volume with the node's disk.
    pub disk: String,
    /// Extra kernel arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel_args: Vec<String>,
    /// The enabled add-ons, in the order in which they were.
    pub addons: Vec<String>,
    /// The kubeconfig file that has the context.
    pub kubeconfig: PathBuf,
    /// The assets that the cluster is made of.
    pub assets: Assets,
    /// How the node reaches the world, as far as the user said.
    #[serde(default, skip_serializing_if = "egress::Settings::is_empty")]
    pub egress: egress::Settings,
    /// Ports on the host's loopback.
    pub ports: Ports,
    /// Ports on the host's loopback that lead to Services.
    #[serde(default, rename = "forward", skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<ServiceForward>,
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
    /// To kube-apiserver.
    pub api: u16,
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

impl Profile {
    /// All ports on the host's loopback that this cluster uses when it runs.
    pub fn host_ports(&self) -> Vec<u16> {
        let own = [self.ports.api, self.ports.ssh];
        own.into_iter()
            .chain(self.forwards.iter().map(|f| f.host))
            .collect()
    }

    /// The URL of kube-apiserver on this host.
    pub fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.api)
    }

    /// The version of Kubernetes.
    ///
    /// # Errors
    /// [`Kind::State`] when somebody has damaged it in the file.
    pub fn version(&self) -> Result<KubernetesVersion> {
        self.kubernetes_version.parse().map_err(|why: String| {
            Error::new(
                Kind::State,
                format!("the profile `{}` has a damaged version: {why}", self.name),
            )
        })
    }

    /// The domain's UUID.
    ///
    /// # Errors
    /// [`Kind::State`] when somebody has damaged it in the file.
    pub fn uuid(&self) -> Result<uuid::Uuid> {
        self.uuid.parse().context(Kind::State, || {
            format!(
                "the profile `{}` has a damaged UUID: {}",
                self.name, self.uuid
            )
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
            Refusal::Newer(version) => Error::new(
                Kind::State,
                format!("{} {}", path.display(), newer(version)),
            )
            .with_hint("use that newer kubby for this profile, or choose another with --profile"),
            Refusal::Damaged(why) => {
                Error::new(Kind::State, format!("the profile file {} is damaged", path.display()))
                    .with_detail("the parser says", why)
                    .with_hint("`kubby delete` removes the profile with all that belongs to it; or mend the file by hand")
            }
        })?;
        Ok(Some(profile))
    }

    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        let damaged = |e: toml::de::Error| Refusal::Damaged(e.to_string());
        let table: toml::Table = toml::from_str(text).map_err(damaged)?;
        if migrate::version(&table)? == FILE_VERSION {
            // From the text itself, so that what the parser says names a line.
            return toml::from_str(text).map_err(damaged);
        }
        migrate::migrate(table)?.try_into().map_err(damaged)
    }

    /// Reads a profile that is a part of something else, of this or of an earlier version.
    ///
    /// # Errors
    /// The deserializer's own, with the reason.
    pub fn deserialize_any_version<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let table = migrate::migrate(toml::Table::deserialize(from)?).map_err(|e| match e {
            Refusal::Newer(version) => D::Error::custom(format!("its profile {}", newer(version))),
            Refusal::Damaged(why) => D::Error::custom(why),
        })?;
        table.try_into().map_err(D::Error::custom)
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
pub fn earlier(dir: &ProfileDir) -> Option<(u32, String)> {
    let text = std::fs::read_to_string(dir.profile()).ok()?;
    let version = migrate::version(&toml::from_str(&text).ok()?).ok()?;
    (version < FILE_VERSION).then_some((version, text))
}

/// What to say of a file with a version that is not known yet.
pub fn newer(version: u32) -> String {
    format!(
        "was written by a newer kubby (file version {version}; this one knows up to {FILE_VERSION})"
    )
}

/// A profile with something in every field, for tests.
#[cfg(test)]
pub(crate) fn example() -> Profile {
    Profile {
        version: FILE_VERSION,
        kubby: "0.1.0".into(),
        name: "dev".parse().unwrap(),
        uuid: "c2f6e8e2-8f3a-4c6a-9a52-3b1f3c1b7f10".into(),
        connect: "qemu:///session".into(),
        acceleration: "tcg".into(),
        kubernetes_version: "v1.37.2".into(),
        cpus: 2,
        memory_mib: 4096,
        disk_mib: 20480,
        disk: "kubby-dev.disk-1.qcow2".into(),
        kernel_args: vec![],
        addons: vec!["dns".into()],
        kubeconfig: "/home/u/.kube/config".into(),
        assets: Assets::default(),
        egress: egress::Settings {
            dns: vec!["10.1.1.1".into()],
            ca_certificates: vec!["-----BEGIN CERTIFICATE-----\nAA\n".into()],
            ..egress::Settings::default()
        },
        ports: Ports {
            ssh: 40001,
            api: 40002,
        },
        forwards: vec![ServiceForward {
            namespace: "default".into(),
            service: "web".into(),
            port: 80,
            protocol: Protocol::Tcp,
            host: 8080,
            node: 30080,
        }],
    }
}
