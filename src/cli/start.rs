//! The command line of `kubby start`.

use std::path::PathBuf;

use clap::Args;

use crate::cluster::spec::ClusterArgs;

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
