//! The command line of `kubby logs`.

use std::path::PathBuf;

use clap::Args;

/// What `kubby logs` takes.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Components: etcd, kube-apiserver, kubelet … [default: all]
    #[arg(value_name = "COMPONENT", value_parser = clap::builder::PossibleValuesParser::new(
        crate::provision::processes(crate::role::Role::ControlPlane).map(|(process, _)| process)))]
    pub components: Vec<String>,
    /// How many lines from the end
    #[arg(short = 'n', long, default_value_t = 100, value_name = "N")]
    pub lines: u32,
    /// Go on with new lines as they come
    #[arg(short, long)]
    pub follow: bool,
    /// The serial console of the machine, also when it is not reached over SSH
    #[arg(long, conflicts_with_all = ["components", "follow"])]
    pub console: bool,
    /// Write all that helps to find a fault to FILE (tar.gz; - for standard output), secrets left
    /// out
    #[arg(long, value_name = "FILE", conflicts_with_all = ["components", "follow", "console", "lines"])]
    pub bundle: Option<PathBuf>,
}
