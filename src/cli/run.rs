//! The command line of `kubby run`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::ClusterArgs;

/// What `kubby run` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: the command's own, 128+N when signal N ended it; 124 when --timeout \
passed, 126 when the command cannot be executed, 127 when there is no such command, 129, 130 and \
143 after SIGHUP, Ctrl-C and SIGTERM, 125 for a defect of kubby, and 2 and 10 to 16 as everywhere \
when there is no cluster to run it on."
)]
pub struct RunArgs {
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
    /// End the start or the command after so many seconds, with exit code 124
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub timeout: Option<u64>,
    /// When the start or the command fails, write a bundle of logs to this folder
    #[arg(long, value_name = "DIR")]
    pub logs: Option<PathBuf>,
    /// Keep the cluster, however the command ends
    #[arg(long)]
    pub keep: bool,
    /// Keep the cluster when the start or the command fails
    #[arg(long, conflicts_with = "keep")]
    pub keep_on_failure: bool,
    /// What the cluster is to be.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}
