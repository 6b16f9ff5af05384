//! The command lines of `kubby snapshot`, `kubby fork` and `kubby template`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::name::{ProfileName, SnapshotName};

/// The commands of `kubby snapshot`.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Save the cluster's disk, and its memory if it is running; it keeps running
    Save {
        /// Name of the snapshot
        #[arg(value_name = "SNAPSHOT")]
        name: SnapshotName,
    },
    /// List the cluster's snapshots
    #[command(visible_alias = "ls")]
    List,
    /// Restore a snapshot; all later changes are lost
    #[command(after_long_help = "\
Examples:
  kubby snapshot save before
  kubby snapshot restore before")]
    Restore {
        /// Name of the snapshot
        #[arg(value_name = "SNAPSHOT")]
        name: SnapshotName,
        /// Do not start the cluster; the next start resumes from the snapshot
        #[arg(long)]
        no_start: bool,
    },
    /// Delete a snapshot
    #[command(visible_alias = "rm")]
    Delete {
        /// Name of the snapshot
        #[arg(value_name = "SNAPSHOT")]
        name: SnapshotName,
    },
}

/// The arguments of `kubby fork`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  kubby fork try-it                   a copy of the cluster `kubby` as it is now
  kubby -p dev fork b --from before   a copy of a snapshot of the cluster `dev`")]
pub struct ForkArgs {
    /// Profile name of the new cluster
    #[arg(value_name = "NEW")]
    pub new: ProfileName,
    /// Fork this snapshot instead of the present state
    #[arg(long, value_name = "SNAPSHOT")]
    pub from: Option<SnapshotName>,
    /// Do not switch kubectl's current context
    #[arg(long)]
    pub keep_context: bool,
    /// Do not start the new cluster; its first start resumes from the saved state
    #[arg(long)]
    pub no_start: bool,
}

/// The commands of `kubby template`.
#[derive(Debug, Subcommand)]
pub enum TemplateCommand {
    /// List warm templates and the disk space that they use
    #[command(visible_alias = "ls")]
    List,
    /// Delete warm templates; the next matching start boots and saves a new one
    #[command(visible_alias = "rm")]
    Delete {
        /// Keys of templates, or the beginnings of them
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
    /// Delete the warm templates that no start can use any more
    Prune {
        /// Delete every template
        #[arg(long)]
        all: bool,
    },
    /// Export a warm template to a file for another host
    #[command(after_long_help = "\
Examples:
  kubby template export -f warm.kubby
  kubby template export -f - | ssh other-host kubby template import -")]
    Export {
        /// The template's key or the beginning of it; optional if there is only one template
        #[arg(value_name = "KEY")]
        key: Option<String>,
        /// File to write, or `-` for standard output
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        /// Leave out the node image and the components, for hosts that have them in their cache
        #[arg(long)]
        without_images: bool,
    },
    /// Import a warm template from an exported file
    Import {
        /// File to read, or `-` for standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Required SHA-256 of the file, as printed by `export` and sha256sum
        #[arg(long, value_name = "HEX", value_parser = crate::cluster::spec::sha256)]
        sha256: Option<String>,
        /// libvirt connection to import to [default: as for `kubby start`]
        #[arg(long, value_name = "URI")]
        connect: Option<String>,
    },
}
