//! The command line of `kubby start`, and the flags that describe a cluster.

use std::path::PathBuf;

use clap::Args;

use super::EgressArgs;
use crate::assets::components::Source;
use crate::assets::version::KubernetesVersion;
use crate::hypervisor::AccelChoice;
use crate::units::Mebibytes;

/// The flags that describe a cluster. A flag that is not given keeps the profile's setting.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// Kubernetes version, v1.34.0 or newer [default: v1.37.2]
    #[arg(long, value_name = "VERSION")]
    pub kubernetes_version: Option<KubernetesVersion>,
    /// Number of virtual CPUs [default: up to 4, as many as the host can spare]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub cpus: Option<u32>,
    /// Memory of the node, in MiB or with a unit [default: 4GiB, less on small hosts]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Mebibytes>,
    /// Size of the node's disk, whose file grows as it fills [default: 20GiB]
    #[arg(long, value_name = "SIZE")]
    pub disk: Option<Mebibytes>,
    /// Hardware virtualisation or emulation
    #[arg(long, value_enum, value_name = "KIND")]
    pub accel: Option<AccelChoice>,
    /// libvirt connection [default: LIBVIRT_DEFAULT_URI, else qemu:///system for root and
    /// qemu:///session for other users]
    #[arg(long, value_name = "URI")]
    pub connect: Option<String>,
    /// Port on 127.0.0.1 for kube-apiserver [default: a free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub api_port: Option<u16>,
    /// Port on 127.0.0.1 for the node's SSH server [default: a free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub ssh_port: Option<u16>,
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

/// The arguments of `kubby start`. The last group of the cluster's flags has a heading, these have
/// none.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Settings are kept, so later starts need no flags. Flags of an existing cluster's machine (CPUs, memory) \
need a `kubby stop` first.

Examples:
  kubby start                                 the default cluster
  kubby start -p dev --cpus 2 --memory 3GiB   a second, smaller cluster
  kubby start --kubernetes-version v1.36.1
  kubby start --addon metrics --addon ./my-addon
  kubby start --download-only                 fill the cache, for example in CI")]
pub struct StartArgs {
    /// The flags that describe the cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Download or build the images and components only; create no cluster
    #[arg(long, help_heading = None)]
    pub download_only: bool,
    /// Do not switch kubectl's current context
    #[arg(long, help_heading = None)]
    pub keep_context: bool,
    /// Fail if the cluster is not ready within SECONDS [default: about 3 minutes with KVM, more
    /// under emulation]
    #[arg(long, help_heading = None, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub timeout: Option<u64>,
    /// Write a timing trace to FILE (Chrome's format, which Perfetto shows)
    #[arg(
        long,
        alias = "profile-start",
        help_heading = None,
        value_name = "FILE"
    )]
    pub trace: Option<PathBuf>,
}

/// Checks a SHA-256 and returns it in lower case.
pub(super) fn sha256(text: &str) -> Result<String, String> {
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
