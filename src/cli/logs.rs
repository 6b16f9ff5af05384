//! The command line of `kubby logs`.

use std::path::PathBuf;

use clap::Args;

/// The arguments of `kubby logs`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  kubby logs kubelet containerd -n 500
  kubby logs -f kube-apiserver
  kubby logs --console -n 50
  kubby logs --bundle kubby-logs.tar.gz")]
pub struct LogsArgs {
    /// Show the logs of these components only [default: all]
    #[arg(value_name = "COMPONENT", value_parser = clap::builder::PossibleValuesParser::new(
        crate::provision::processes(crate::role::Role::ControlPlane).iter().copied()))]
    pub components: Vec<String>,
    /// Node to use [default: the first control plane]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Number of lines from the end
    #[arg(short = 'n', long, default_value_t = 100, value_name = "N")]
    pub lines: u32,
    /// Wait for new lines and print them
    #[arg(short, long)]
    pub follow: bool,
    /// Show the machine's serial console, which needs no SSH
    #[arg(long, conflicts_with_all = ["components", "follow"])]
    pub console: bool,
    /// Write a support bundle without secrets to FILE (tar.gz), or to standard output for `-`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["components", "follow", "console", "lines"])]
    pub bundle: Option<PathBuf>,
}
