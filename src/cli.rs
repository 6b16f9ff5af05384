//! The command line: commands, flags and help. The folder `commands` runs them.

mod addon;
mod certs;
mod groups;
mod host_port;
mod image;
mod logs;
mod node;
mod run;
mod saving;
mod service;
mod start;

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::name::ProfileName;

pub(crate) use addon::AddonCommand;
pub(crate) use certs::CertsCommand;
pub(crate) use host_port::HostPortCommand;
pub(crate) use image::ImageCommand;
pub(crate) use logs::LogsArgs;
pub(crate) use node::NodeCommand;
pub(crate) use run::RunArgs;
pub(crate) use saving::{ForkArgs, SnapshotCommand, TemplateCommand};
pub(crate) use service::{ServiceArgs, ServiceCommand};
pub(crate) use start::StartArgs;

/// A real Kubernetes on a real virtual machine, on a laptop or in CI.
#[derive(Debug, Parser)]
#[command(name = "kubby", version, max_term_width = 100)]
#[command(after_help = "\
`kubby start` creates a cluster; `kubby COMMAND --help` shows a command's flags.

Exit codes:
    0  success
    1  internal error: a defect of kubby
    2  usage: invalid flags or names
   10  preflight: the host cannot run the cluster as requested
   11  assets: an image or component cannot be downloaded, built or verified
   12  hypervisor: libvirt or QEMU refused
   13  node unreachable: it does not boot or does not answer over SSH
   14  cluster unhealthy: a component does not run or does not become ready
   15  state: no such cluster, or not in a state for this command
   16  kubeconfig: the file cannot be read or written
  130  interrupted")]
pub struct Cli {
    /// The flags of all commands.
    #[command(flatten)]
    pub global: Global,
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Returns the definition of the whole command line, for parsing, completion and manual pages.
    pub fn definition() -> clap::Command {
        groups::with_groups(Cli::command())
    }

    /// Reads the command line; for help and errors, prints them and exits.
    pub fn read() -> Cli {
        let matches = Cli::definition().get_matches();
        let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
        cli.global.profile_given =
            matches.value_source("profile") == Some(ValueSource::CommandLine);
        cli
    }
}

/// The flags of all commands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Cluster to use
    #[arg(
        short,
        long,
        global = true,
        default_value = "kubby",
        env = "KUBBY_PROFILE",
        value_name = "NAME"
    )]
    pub profile: ProfileName,
    /// Whether the profile was given on this command line, not in the environment.
    #[arg(skip)]
    pub profile_given: bool,
    /// Format of results on standard output
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub output: OutputFormat,
    /// Print errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print the output of every tool that kubby runs
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Fail at once if another kubby process is using the cluster
    #[arg(long, global = true)]
    pub no_wait: bool,
}

/// The format of results on standard output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Text for people
    #[default]
    Text,
    /// JSON for programs, with a versioned layout
    Json,
}

/// The commands. Their order in `kubby --help` is in `groups`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create the cluster, or start it again and repair it
    Start(Box<StartArgs>),
    /// Show the status of VM, kubelet, API server and kubeconfig
    Status {
        /// Exit with 14 if a component is not running, with 15 if the cluster is not
        #[arg(long)]
        exit_code: bool,
    },
    /// List all clusters
    #[command(visible_alias = "ls")]
    List,
    /// Shut the cluster down; its data stays
    ///
    /// Pods run their preStop hooks and get the time that they ask for, at most two minutes unless
    /// --timeout says otherwise. All of them run again after the next start.
    Stop {
        /// Power the machine off at once, without ending pods or shutting it down
        #[arg(long)]
        force: bool,
        /// Power the machine off if pods have not ended and it has not shut down within SECONDS
        /// [default: what pods ask for, up to 120, and then 30 with KVM, more under emulation]
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
        timeout: Option<u64>,
    },
    /// Pause the virtual machine; its memory stays allocated on the host
    Pause,
    /// Save the cluster's memory to disk and power it off
    ///
    /// `kubby start` or `kubby resume` continue from the saved memory in seconds.
    Suspend,
    /// Resume a paused or suspended cluster
    Resume,
    /// Delete the cluster: machine, volumes, keys, context
    Delete {
        /// Delete all clusters; --profile is ignored
        #[arg(long)]
        all: bool,
        /// Also delete cached images and components and all warm templates
        #[arg(long)]
        purge: bool,
    },
    /// Run a command on a new cluster, then delete the cluster
    Run(Box<RunArgs>),
    /// Save the cluster's state and restore it later
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Create a second, independent cluster with this one's data
    Fork(ForkArgs),
    /// Manage warm templates, which make new clusters start in seconds
    #[command(subcommand)]
    Template(TemplateCommand),
    /// Run the kubectl of the cluster's version with its credentials
    #[command(after_long_help = "\
Examples:
  kubby kubectl -- get pods -A
  kubby -p dev kubectl -- apply -f app.yaml")]
    Kubectl {
        /// Arguments for kubectl
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "ARGS"
        )]
        args: Vec<String>,
    },
    /// Forward a port of this host to a Service and print its URL
    Service(ServiceArgs),
    /// Open ports of this host to pods or to kube-apiserver
    #[command(subcommand)]
    HostPort(HostPortCommand),
    /// Show and change the cluster's objects in a browser
    Dashboard(DashboardArgs),
    /// List, enable and disable add-ons (DNS, storage, metrics, ...)
    #[command(subcommand)]
    Addon(AddonCommand),
    /// List and renew the cluster's certificates
    #[command(subcommand)]
    Certs(CertsCommand),
    /// Open a shell on the node, or run one command there
    #[command(after_long_help = "\
Standard output, standard error and the exit code are those of the command.

Examples:
  kubby ssh                           open a shell
  kubby ssh -- pgrep -l etcd          run one command
  kubby ssh -t -- htop                run one command on a terminal
  kubby ssh -- tar c /etc >etc.tar    copy a folder")]
    Ssh {
        /// Node to use [default: the first control plane]
        #[arg(long, value_name = "NAME")]
        node: Option<String>,
        /// Run the command on a terminal
        #[arg(short, long)]
        tty: bool,
        /// Command to run [default: a shell]
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "COMMAND"
        )]
        command: Vec<String>,
    },
    /// Show logs of the components or the serial console
    Logs(LogsArgs),
    /// List, add, delete, start and stop the cluster's nodes
    #[command(subcommand)]
    Node(NodeCommand),
    /// Print the address at which this host reaches the node
    Ip,
    /// Print the ports on 127.0.0.1 that lead to the node
    Port {
        /// Node to use [default: the first control plane]
        #[arg(long, value_name = "NAME")]
        node: Option<String>,
        /// Print this port only, as a bare number
        #[arg(value_enum)]
        name: Option<PortName>,
    },
    /// Load, build, list, pull, save, tag and remove container images
    #[command(subcommand)]
    Image(ImageCommand),
    /// Build and export the disk image that nodes boot from
    #[command(subcommand)]
    NodeImage(NodeImageCommand),
    /// Diagnose problems that keep clusters from running
    #[command(after_help = "\
Exits with 0 if no check failed (warnings are not failures), else with 10.")]
    Doctor {
        /// Repair what can be repaired safely, report it, and check again
        #[arg(long)]
        fix: bool,
    },
    /// Print the versions of kubby, Kubernetes and libvirt
    Version,
    /// Print a completion script for a shell
    #[command(after_long_help = "\
Examples:
  kubby completion bash >~/.local/share/bash-completion/completions/kubby
  kubby completion fish >~/.config/fish/completions/kubby.fish")]
    Completion {
        /// Shell to complete for
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Write manual pages
    #[command(hide = true)]
    Man {
        /// Folder to write to
        dir: PathBuf,
    },
}

/// The ports that lead to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PortName {
    /// kube-apiserver
    Api,
    /// The node's SSH server
    Ssh,
}

/// The commands of `kubby node-image`.
#[derive(Debug, Subcommand)]
pub enum NodeImageCommand {
    /// Build the node image and optionally export it to a file
    #[command(after_long_help = "\
Examples:
  kubby node-image build --export node.qcow2.gz
  kubby start --image node.qcow2.gz              on another host")]
    Build {
        /// Build the image again even if it is cached
        #[arg(long)]
        force: bool,
        /// Write the image to FILE for `kubby start --image`; compressed if it ends in .gz
        #[arg(long, value_name = "FILE")]
        export: Option<PathBuf>,
    },
}

/// The arguments of `kubby dashboard`.
#[derive(Debug, Args)]
pub struct DashboardArgs {
    /// Print the URL only; do not open a browser
    #[arg(long)]
    pub url: bool,
    /// Port on 127.0.0.1 [default: a free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Allow no changes through the page
    #[arg(long)]
    pub read_only: bool,
}
