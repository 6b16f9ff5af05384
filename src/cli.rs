//! The command line: names, flags and help. What commands do is in `commands`.

mod addon;
mod certs;
mod dashboard;
mod egress;
mod image;
mod logs;
mod run;
mod saving;
mod service;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::assets::components::Source;
use crate::assets::version::KubernetesVersion;
use crate::hypervisor::AccelChoice;
use crate::name::ProfileName;
use crate::units::Mebibytes;

pub use addon::{AddonCommand, AddonDisableArgs, AddonEnableArgs, AddonShowArgs};
pub use certs::{CertsCommand, CertsRenewArgs};
pub use dashboard::DashboardArgs;
pub use egress::EgressArgs;
pub use image::{
    ImageBuildArgs, ImageCommand, ImageLoadArgs, ImagePullArgs, ImageRemoveArgs, ImageSaveArgs,
    ImageTagArgs, save_output,
};
pub use logs::LogsArgs;
pub use run::RunArgs;
pub use saving::{
    ForkArgs, SnapshotArgs, SnapshotCommand, SnapshotRestoreArgs, TemplateCommand,
    TemplateDeleteArgs, TemplateExportArgs, TemplateImportArgs, TemplatePruneArgs,
};
pub use service::{ServiceArgs, ServiceCommand, ServiceListArgs, ServiceRemoveArgs};

/// A real Kubernetes on a real virtual machine, on a laptop or in CI.
#[derive(Debug, Parser)]
#[command(name = "kubby", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, 1 internal, 2 usage, 10 preflight, 11 assets, 12 hypervisor, \
13 node unreachable, 14 cluster unhealthy, 15 profile state, 16 kubeconfig, 130 interrupted."
)]
pub struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads the command line; prints help and errors, and ends the process then.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Cli {
        let matches = Cli::command().get_matches_from(args);
        let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
        cli.global.profile_given =
            matches.value_source("profile") == Some(ValueSource::CommandLine);
        cli
    }
}

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The cluster to work on
    #[arg(
        short,
        long,
        global = true,
        help_heading = "Global options",
        default_value = "kubby",
        env = "KUBBY_PROFILE",
        value_name = "NAME"
    )]
    pub profile: ProfileName,
    /// The profile was named on this command line, not in the environment.
    #[arg(skip)]
    pub profile_given: bool,
    /// How to print results
    #[arg(short, long, global = true, help_heading = "Global options", value_enum, default_value_t = OutputFormat::Text, value_name = "FORMAT")]
    pub output: OutputFormat,
    /// Print errors only
    #[arg(
        short,
        long,
        global = true,
        help_heading = "Global options",
        conflicts_with = "verbose"
    )]
    pub quiet: bool,
    /// Print each line of each tool that runs
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub verbose: bool,
    /// Fail at once when another kubby works on the cluster
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_wait: bool,
}

/// The shape of results on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people
    Text,
    /// For programs, versioned
    Json,
}

/// What kubby can be told to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create the cluster, or bring it back and repair what is missing
    Start(Box<StartArgs>),
    /// Run a command on a throwaway cluster, and delete that afterwards
    Run(Box<RunArgs>),
    /// Tell what runs: host, kubelet, apiserver, kubeconfig
    Status(StatusArgs),
    /// Open a shell in the node, or run one command there
    Ssh(SshArgs),
    /// Shut the node down; its data stays
    Stop(StopArgs),
    /// Stop the node's processors; its memory stays in the host's
    Pause,
    /// Let a paused or suspended node go on
    Resume,
    /// Save the node's memory to the disk and end it; start takes it up again in seconds
    Suspend,
    /// Remove the cluster with all that belongs to it
    Delete(DeleteArgs),
    /// List all profiles
    #[command(visible_alias = "ls")]
    List,
    /// Look for what keeps clusters from running here, and repair what is safe to
    Doctor(DoctorArgs),
    /// Show journals of the components, or the serial console
    Logs(LogsArgs),
    /// Run the kubectl that fits the cluster, with its credentials
    Kubectl(KubectlArgs),
    /// Print the address under which this host reaches a Service
    Service(ServiceArgs),
    /// Show what is in the cluster in the browser, and change it there
    Dashboard(DashboardArgs),
    /// Print the address under which the host reaches the node
    Ip,
    /// Print the ports on the host's loopback that lead into the node
    Port(PortArgs),
    /// Save the cluster as it is, and take it back to that
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Make a second, independent cluster with the data of this one
    Fork(ForkArgs),
    /// List and delete the warm templates that starts begin from
    #[command(subcommand)]
    Template(TemplateCommand),
    /// List, enable and disable what a cluster has beside Kubernetes itself
    #[command(subcommand)]
    Addon(AddonCommand),
    /// List and renew the cluster's certificates
    #[command(subcommand)]
    Certs(CertsCommand),
    /// Load, build, list, pull, save, tag and remove container images in the node
    #[command(subcommand)]
    Image(ImageCommand),
    /// Build and export the image that nodes boot from
    #[command(subcommand)]
    NodeImage(NodeImageCommand),
    /// Print versions
    Version,
    /// Print a completion script for a shell
    Completion(CompletionArgs),
    /// Write man pages
    #[command(hide = true)]
    Man(ManArgs),
}

/// What a cluster is to be. A flag that is left out keeps what the profile has.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// Kubernetes to install, v1.34.0 or newer [default: v1.37.2]
    #[arg(long, value_name = "VERSION")]
    pub kubernetes_version: Option<KubernetesVersion>,
    /// Virtual CPUs [default: what the host can spare, up to 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub cpus: Option<u32>,
    /// Memory of the node, in MiB or with a unit [default: 4GiB, less on small hosts]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Mebibytes>,
    /// Size of the node's disk; it takes room as it fills [default: 20GiB]
    #[arg(long, value_name = "SIZE")]
    pub disk: Option<Mebibytes>,
    /// Hardware virtualisation or emulation
    #[arg(long, value_enum, value_name = "KIND")]
    pub accel: Option<AccelChoice>,
    /// libvirt connection [default: LIBVIRT_DEFAULT_URI, else qemu:///system for root and
    /// qemu:///session for others]
    #[arg(long, value_name = "URI")]
    pub connect: Option<String>,
    /// Port on 127.0.0.1 for kube-apiserver [default: a free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub api_port: Option<u16>,
    /// Port on 127.0.0.1 for the node's SSH server [default: a free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub ssh_port: Option<u16>,
    /// Use a node image made before (qcow2, may be gzip-compressed)
    #[arg(long, value_name = "PATH|URL")]
    pub image: Option<String>,
    /// SHA-256 of the file that --image names; a must for a URL
    #[arg(long, value_name = "HEX", requires = "image", value_parser = sha256)]
    pub image_sha256: Option<String>,
    /// Where Kubernetes' programs come from
    #[arg(long, value_enum, value_name = "SOURCE", default_value_t = SourceArg::Auto)]
    pub component_source: SourceArg,
    /// Take Kubernetes' programs from this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["component_source", "binary_mirror"])]
    pub components: Option<PathBuf>,
    /// Base URL that serves the official downloads' layout
    #[arg(long, value_name = "URL")]
    pub binary_mirror: Option<String>,
    /// Have this add-on as well: a name or a folder (may be repeated)
    #[arg(long, value_name = "NAME|DIR")]
    pub addon: Vec<String>,
    /// Do without this add-on (may be repeated)
    #[arg(long, value_name = "NAME")]
    pub no_addon: Vec<String>,
    /// Append to the kernel's command line (may be repeated)
    #[arg(long, value_name = "ARG", value_parser = kernel_arg)]
    pub kernel_arg: Vec<String>,
    /// Start cold, and save no warm template for later starts
    #[arg(long)]
    pub no_template: bool,
    /// How the node reaches the world.
    #[command(flatten)]
    pub egress: EgressArgs,
}

/// What `kubby start` takes. The last group of the cluster's flags has a heading, these have none.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// What the cluster is to be.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Get or build what the cluster is made of, and make nothing else
    #[arg(long, help_heading = None)]
    pub download_only: bool,
    /// Do not switch kubectl's current context
    #[arg(long, help_heading = None)]
    pub keep_context: bool,
    /// Give up when the cluster is not ready after so many seconds [default: by acceleration]
    #[arg(long, help_heading = None, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub timeout: Option<u64>,
    /// Write where the time goes to FILE, in the trace event format of Perfetto and Chrome
    #[arg(long, help_heading = None, value_name = "FILE")]
    pub profile_start: Option<PathBuf>,
}

/// `--component-source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SourceArg {
    /// Official downloads; a build from Go modules where they cannot be reached
    Auto,
    /// Official downloads only
    Download,
    /// A build from Go modules
    Build,
}

impl From<SourceArg> for Source {
    fn from(arg: SourceArg) -> Source {
        match arg {
            SourceArg::Auto => Source::Auto,
            SourceArg::Download => Source::Download,
            SourceArg::Build => Source::Build,
        }
    }
}

/// What `kubby status` takes.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Exit with 14 when something does not run, 15 when there is no running cluster
    #[arg(long)]
    pub exit_code: bool,
}

/// What `kubby ssh` takes.
#[derive(Debug, Args)]
pub struct SshArgs {
    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// The command; without one, a shell
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    pub command: Vec<String>,
}

/// What `kubby stop` takes.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// Cut the power at once instead of shutting down
    #[arg(long)]
    pub force: bool,
    /// Cut the power when the node is not down after so many seconds [default: by acceleration]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: Option<u64>,
}

/// What `kubby delete` takes.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Delete every profile, whatever --profile says
    #[arg(long)]
    pub all: bool,
    /// Delete cached images and components and all warm templates as well
    #[arg(long)]
    pub purge: bool,
}

/// What `kubby doctor` takes.
#[derive(Debug, Args)]
#[command(after_help = "Ends with 0 when there is no failure (warnings are none), else with 10.")]
pub struct DoctorArgs {
    /// Repair what is safe to, say what was done, and look again
    #[arg(long)]
    pub fix: bool,
}

/// What `kubby kubectl` takes.
#[derive(Debug, Args)]
pub struct KubectlArgs {
    /// kubectl's own arguments
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    pub args: Vec<String>,
}

/// What `kubby port` takes.
#[derive(Debug, Args)]
pub struct PortArgs {
    /// Only this one, as a bare number
    #[arg(value_enum)]
    pub name: Option<PortName>,
}

/// The ports that lead into the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PortName {
    /// kube-apiserver
    Api,
    /// The SSH server
    Ssh,
}

/// The image that nodes boot from.
#[derive(Debug, Subcommand)]
pub enum NodeImageCommand {
    /// Build the node image now, and export it to one file if asked
    Build(NodeImageBuildArgs),
}

/// What `kubby node-image build` takes.
#[derive(Debug, Args)]
pub struct NodeImageBuildArgs {
    /// Build again although the image is cached
    #[arg(long)]
    pub force: bool,
    /// Write the image to one file for `kubby start --image`; compressed if it ends in .gz
    #[arg(long, value_name = "FILE")]
    pub export: Option<PathBuf>,
}

/// What `kubby completion` takes.
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// What `kubby man` takes.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The folder to write to
    pub dir: PathBuf,
}

fn sha256(text: &str) -> Result<String, String> {
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("a SHA-256 is 64 hexadecimal digits, as sha256sum prints them".into())
    }
}

/// One word: what the kernel's command line holds is split at spaces.
fn kernel_arg(text: &str) -> Result<String, String> {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("a kernel argument is one word of printable ASCII".into())
    }
}
