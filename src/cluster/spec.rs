//! The settings of a cluster, each declared once: as a flag in [`ClusterArgs`] and as a field of the
//! profile ([`ClusterSpec`], [`MachineSpec`]). Restores and the key of a warm template take them from
//! the profile as a whole.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::assets::components::Source;
use crate::assets::version::{self, KubernetesVersion};
use crate::cluster::machine::names;
use crate::cluster::machine::ports::AskedPorts;
use crate::cluster::machine::room;
use crate::cluster::policies;
use crate::cni::{Cni, CniArg};
use crate::egress::{self, EgressArgs};
use crate::error::{Error, Result};
use crate::extra_config::{self, FeatureGates, Setting};
use crate::hypervisor::{self, AccelChoice, Acceleration, HostInfo};
use crate::name::ProfileName;
use crate::network::{FIRST_NUMBER, NODE_NAME};
use crate::profile::{Assets, ClusterSpec, FILE_VERSION, MachineSpec, NodeProfile, Ports, Profile};
use crate::role::Role;
use crate::units::Mebibytes;

/// The flags that describe a cluster. A flag that is not given keeps the profile's setting.
#[derive(Debug, Clone, Default, Args)]
pub struct ClusterArgs {
    /// Kubernetes version, v1.34.0 or newer [default: v1.37.2]
    #[arg(long, value_name = "VERSION")]
    pub kubernetes_version: Option<KubernetesVersion>,
    /// Number of control planes; of three the loss of any one is survived [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=MOST_CONTROL_PLANES))]
    pub control_planes: Option<u8>,
    /// Number of nodes in all: the control planes, the others workers [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "workers", value_parser = clap::value_parser!(u8).range(1..=MOST_NODES))]
    pub nodes: Option<u8>,
    /// Number of workers [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..MOST_NODES))]
    pub workers: Option<u8>,
    /// Number of virtual CPUs of each worker [default: as --cpus; emulated ones at most half of the
    /// host's processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub worker_cpus: Option<u32>,
    /// Memory of each worker, in MiB or with a unit [default: 2GiB]
    #[arg(long, value_name = "SIZE")]
    pub worker_memory: Option<Mebibytes>,
    /// Number of virtual CPUs [default: up to 4, as many as the host can spare]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub cpus: Option<u32>,
    /// Memory of the control plane, in MiB or with a unit [default: 4GiB, less on small hosts]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Mebibytes>,
    /// Size of each node's disk, whose file grows as it fills [default: 20GiB]
    #[arg(long, value_name = "SIZE")]
    pub disk: Option<Mebibytes>,
    /// Hardware virtualisation or emulation
    #[arg(long, value_enum, value_name = "KIND")]
    pub accel: Option<AccelChoice>,
    /// libvirt connection [default: LIBVIRT_DEFAULT_URI, else qemu:///system for root and
    /// qemu:///session for other users]
    #[arg(long, value_name = "URI")]
    pub connect: Option<String>,
    /// The flags about ports.
    #[command(flatten)]
    pub ports: AskedPorts,
    /// Use an existing node image (qcow2, optionally gzip-compressed)
    #[arg(long, value_name = "PATH|URL")]
    pub image: Option<String>,
    /// SHA-256 of the file given by --image; required if that is a URL
    #[arg(long, value_name = "HEX", requires = "image", value_parser = sha256)]
    pub image_sha256: Option<String>,
    /// Source of the Kubernetes programs
    #[arg(long, value_enum, value_name = "SOURCE", default_value_t)]
    pub component_source: Source,
    /// Use the Kubernetes programs in this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["component_source", "binary_mirror"])]
    pub components: Option<PathBuf>,
    /// Base URL of a mirror with the layout of the official downloads
    #[arg(long, value_name = "URL")]
    pub binary_mirror: Option<String>,
    /// Enable this add-on: a name or a folder (may be repeated)
    #[arg(long, value_name = "NAME|DIR")]
    pub addon: Vec<String>,
    /// Disable this add-on (may be repeated)
    #[arg(long, value_name = "NAME")]
    pub no_addon: Vec<String>,
    /// Network of pods: kubby's bridge, none until you install a network plugin, or the plugin
    /// whose manifests are in DIR, an add-on [default: bridge]
    #[arg(long, value_name = "bridge|none|DIR", value_parser = CniArg::parse)]
    pub cni: Option<CniArg>,
    /// Set a flag of apiserver, controller-manager, scheduler, kubelet or etcd, or a field of
    /// kube-proxy's configuration; COMPONENT.FLAG- takes it back (may be repeated)
    #[arg(long, value_name = "COMPONENT.FLAG=VALUE")]
    pub extra_config: Vec<Setting>,
    /// Turn feature gates on or off in all components of Kubernetes: NAME=true,NAME=false; an
    /// empty text takes all of them back
    #[arg(long, value_name = "GATES")]
    pub feature_gates: Option<FeatureGates>,
    /// Append ARG to the kernel's command line (may be repeated)
    #[arg(long, value_name = "ARG", value_parser = kernel_arg)]
    pub kernel_arg: Vec<String>,
    /// Boot the machine; neither use nor save a warm template
    #[arg(long)]
    pub no_template: bool,
    /// The flags about registries and names.
    #[command(flatten)]
    pub egress: EgressArgs,
}

/// The user's request to `start`.
#[derive(Debug, Clone, Default)]
pub(crate) struct StartOptions {
    /// The flags that describe the cluster.
    pub cluster: ClusterArgs,
    /// Write the context to the profile's own kubeconfig only, when the cluster is created.
    pub own_kubeconfig: bool,
    /// Leave kubectl's current context as it is.
    pub keep_context: bool,
    /// Only nodes are added to a cluster, whose add-ons need not be waited for.
    pub adds_nodes: bool,
    /// The limit for boot and health together.
    pub timeout: Option<Duration>,
}

impl ClusterArgs {
    /// Takes the settings of components over.
    fn configure(&self, spec: &mut ClusterSpec) {
        let gates = self.feature_gates.as_ref();
        extra_config::update(&mut spec.extra_config, &self.extra_config, gates);
    }

    /// Returns a machine with the settings of the flags, and those of `base` where there is no flag.
    fn machine(&self, base: &MachineSpec) -> MachineSpec {
        MachineSpec {
            acceleration: base.acceleration,
            cpus: self.cpus.unwrap_or(base.cpus),
            memory_mib: self.memory.map_or(base.memory_mib, |m| m.0),
            disk_mib: self.disk.map_or(base.disk_mib, |d| d.0),
            kernel_args: if self.kernel_arg.is_empty() {
                base.kernel_args.clone()
            } else {
                self.kernel_arg.clone()
            },
        }
    }
}

/// The most control planes of a cluster: each write waits for the majority of them.
pub(crate) const MOST_CONTROL_PLANES: i64 = 7;

/// The most nodes of a cluster.
pub(crate) const MOST_NODES: i64 = 32;

/// Returns the profile of a new cluster.
///
/// # Errors
/// [`Kind::Preflight`](crate::error::Kind::Preflight) when the host has not enough, [`Kind::Usage`](crate::error::Kind::Usage) for sizes that make no sense.
pub(crate) fn new_profile(
    name: &ProfileName,
    kubeconfig: PathBuf,
    args: &ClusterArgs,
    egress: &egress::Settings,
    acceleration: Acceleration,
    host: &HostInfo,
    ports: Ports,
) -> Result<Profile> {
    let machine = args.machine(&MachineSpec {
        acceleration,
        cpus: room::usual_cpus(acceleration, host.cpus),
        memory_mib: room::usual_memory(host.memory).0,
        disk_mib: room::USUAL_DISK.0,
        kernel_args: Vec::new(),
    });
    room::check_sizes(&machine, "--", host)?;
    let cni = args.cni.as_ref().map_or_else(Cni::default, CniArg::cni);
    let mut spec = ClusterSpec {
        kubernetes_version: args
            .kubernetes_version
            .unwrap_or(version::DEFAULT)
            .to_string(),
        addons: policies::usual_addons(cni),
        cni,
        extra_config: Vec::new(),
        egress: egress::Settings::default(),
    };
    spec.egress.update(egress);
    args.configure(&mut spec);
    Ok(Profile {
        version: FILE_VERSION,
        kubby: env!("CARGO_PKG_VERSION").to_owned(),
        name: name.clone(),
        connect: host.uri.clone(),
        kubeconfig,
        endpoint: None,
        spec,
        assets: Assets::default(),
        nodes: vec![NodeProfile {
            name: NODE_NAME.to_owned(),
            role: Role::ControlPlane,
            number: FIRST_NUMBER,
            uuid: uuid::Uuid::new_v4().to_string(),
            disk: names::new_disk(name, NODE_NAME),
            machine,
            ports,
        }],
        forwards: Vec::new(),
        opened: Vec::new(),
    })
}

/// Applies the flags to the profile of an existing cluster.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) for a setting that is fixed, [`Kind::State`](crate::error::Kind::State) for one that cannot change while the
/// cluster runs or is suspended.
pub(crate) fn change_profile(
    profile: &mut Profile,
    args: &ClusterArgs,
    egress: &egress::Settings,
    acceleration: Acceleration,
    host: &HostInfo,
    running: bool,
) -> Result<()> {
    check_all_fixed(profile, args)?;
    // Not a setting of the machine: it can change while that runs.
    profile.spec.egress.update(egress);
    args.configure(&mut profile.spec);
    let node = profile.first();
    let (endpoint, api) = api_ports(profile, args.ports.api_port);
    let mut wanted = NodeProfile {
        machine: args.machine(&node.machine),
        ports: Ports {
            api,
            ssh: args.ports.ssh_port.unwrap_or(node.ports.ssh),
            link: node.ports.link,
        },
        ..node.clone()
    };
    if args.accel.is_some() {
        wanted.machine.acceleration = acceleration;
    }
    if wanted == *node && endpoint == profile.endpoint {
        return Ok(());
    }
    if running {
        return Err(Error::state(format!(
            "the cluster `{}` is running or suspended: stop it before changing its machine",
            profile.name
        ))
        .with_hint(format!(
            "kubby stop{0}, then kubby start{0} with the same flags",
            profile.name.flag()
        )));
    }
    room::check_sizes(&wanted.machine, "--", host)?;
    for (port, old, flag) in [
        (endpoint, profile.endpoint, "--api-port"),
        (wanted.ports.api, node.ports.api, "--api-port"),
        (Some(wanted.ports.ssh), Some(node.ports.ssh), "--ssh-port"),
    ] {
        if let Some(port) = port.filter(|_| port != old) {
            hypervisor::ports::check_free(port, flag)?;
        }
    }
    *profile.first_mut() = wanted;
    profile.endpoint = endpoint;
    Ok(())
}

/// Returns the ports of the endpoint and of the first node's own API server, if `asked` is to be the one that
/// kubectl knows.
fn api_ports(profile: &Profile, asked: Option<u16>) -> (Option<u16>, Option<u16>) {
    let (endpoint, own) = (profile.endpoint, profile.first().ports.api);
    match (endpoint, asked) {
        (None, _) => (None, asked.or(own)),
        // The two change places.
        (Some(_), Some(_)) if asked == own => (asked, endpoint),
        (Some(_), _) => (asked.or(endpoint), own),
    }
}

/// Checks the settings that never change.
fn check_all_fixed(profile: &Profile, args: &ClusterArgs) -> Result<()> {
    let disk = Mebibytes(profile.first().machine.disk_mib).to_string();
    let asked_cni = args.cni.as_ref().map(|cni| cni.cni().to_string());
    for (flag, asked, has) in [
        (
            "--kubernetes-version",
            args.kubernetes_version.map(|v| v.to_string()),
            &profile.spec.kubernetes_version,
        ),
        ("--disk", args.disk.map(|d| d.to_string()), &disk),
        ("--cni", asked_cni, &profile.spec.cni.to_string()),
        ("--connect", args.connect.clone(), &profile.connect),
    ] {
        if let Some(asked) = asked.filter(|asked| asked != has) {
            let name = &profile.name;
            return Err(Error::usage(format!(
                "{flag}: the cluster `{name}` has {has}, which cannot be changed to {asked}"
            ))
            .with_hint(format!(
                "kubby delete{0} and kubby start{0} {flag} …, or another --profile",
                name.flag()
            )));
        }
    }
    Ok(())
}

/// Decides how a cluster's machines are run, and says why.
///
/// # Errors
/// [`Kind::Preflight`](crate::error::Kind::Preflight) when the host cannot do what was asked for, or its QEMU is too old.
pub(crate) fn acceleration(
    asked: Option<AccelChoice>,
    existing: Option<&Profile>,
    host: &HostInfo,
    facts: &crate::hypervisor::AccelFacts,
) -> Result<(Acceleration, String)> {
    use crate::hypervisor::accel;
    let recorded = existing.map(|p| p.first().machine.acceleration);
    let choice = match (asked, recorded) {
        (Some(choice), _) => choice,
        // A cluster continues as it was created unless the user asks for a change.
        (None, Some(Acceleration::Tcg)) => AccelChoice::Tcg,
        (None, _) => AccelChoice::Auto,
    };
    let (acceleration, why) = accel::decide(choice, facts)?;
    accel::check_qemu(acceleration, host.qemu_version)?;
    let reason = match (asked, existing) {
        (None, Some(_)) => "as the cluster was created".to_owned(),
        _ => why,
    };
    Ok((acceleration, reason))
}

/// Checks a SHA-256 and returns it in lower case.
pub(crate) fn sha256(text: &str) -> Result<String, String> {
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("a SHA-256 is 64 hexadecimal digits, as sha256sum prints them".into())
    }
}

/// Checks that a kernel argument is one word: the kernel splits its command line at spaces.
fn kernel_arg(text: &str) -> Result<String, String> {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("a kernel argument is one word of printable ASCII".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn flags_that_are_not_given_keep_what_there_is() {
        let mut profile = crate::profile::example();
        let host = crate::hypervisor::host::example();
        let before = profile.clone();
        let none = ClusterArgs::default();
        let egress = egress::Settings::default();
        let tcg = Acceleration::Tcg;
        change_profile(&mut profile, &none, &egress, tcg, &host, true).unwrap();
        assert_eq!(profile, before);
        let more = ClusterArgs {
            cpus: Some(1),
            ..ClusterArgs::default()
        };
        let e = change_profile(&mut profile, &more, &egress, tcg, &host, true).unwrap_err();
        assert_eq!(e.kind(), Kind::State);
        change_profile(&mut profile, &more, &egress, tcg, &host, false).unwrap();
        assert_eq!(profile.first().machine.cpus, 1);
        let disk = ClusterArgs {
            disk: Some(Mebibytes(1)),
            ..ClusterArgs::default()
        };
        let e = change_profile(&mut profile, &disk, &egress, tcg, &host, false).unwrap_err();
        assert_eq!(e.kind(), Kind::Usage);
    }

    #[test]
    fn the_port_that_is_asked_for_is_the_one_that_kubectl_knows() {
        let mut profile = crate::profile::example();
        profile.first_mut().ports.api = Some(1);
        assert_eq!(api_ports(&profile, None), (None, Some(1)));
        assert_eq!(api_ports(&profile, Some(9)), (None, Some(9)));
        profile.endpoint = Some(2);
        assert_eq!(api_ports(&profile, None), (Some(2), Some(1)));
        assert_eq!(api_ports(&profile, Some(9)), (Some(9), Some(1)));
        assert_eq!(api_ports(&profile, Some(1)), (Some(1), Some(2)));
    }
}
