//! The command line of `kubby run`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::cluster::spec::ClusterArgs;

/// The arguments of `kubby run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: those of the command, and
  124         --timeout has passed
  125         internal error: a defect of kubby
  126, 127    the command cannot be executed, or does not exist
  128+N       signal N ended the command; 129, 130 and 143 also if SIGHUP,
              Ctrl-C or SIGTERM ended kubby
  2, 10-16    as in `kubby --help`, if no cluster could be started

Examples:
  kubby run -- kubectl get nodes
  kubby run --timeout 1200 --logs logs -- make e2e
  kubby run -p ci --keep-on-failure -- ./test.sh")]
pub struct RunArgs {
    /// Command to run, with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
    /// Stop the start or the command after SECONDS, with exit code 124
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub timeout: Option<u64>,
    /// Write a support bundle to this folder if the start or the command fails
    #[arg(long, value_name = "DIR")]
    pub logs: Option<PathBuf>,
    /// Keep the cluster afterwards
    #[arg(long)]
    pub keep: bool,
    /// Keep the cluster if the start or the command fails
    #[arg(long, conflicts_with = "keep")]
    pub keep_on_failure: bool,
    /// The flags that describe the cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}
