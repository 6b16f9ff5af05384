//! The command line of what saves a machine: snapshots, forks, templates.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::name::{ProfileName, SnapshotName};

/// Saved states of a cluster that the user names.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Save the cluster as it is now, memory included if it runs; it runs on
    Save(SnapshotArgs),
    /// List the cluster's snapshots
    #[command(visible_alias = "ls")]
    List,
    /// Take the cluster back to a snapshot; what it has done since is lost
    Restore(SnapshotRestoreArgs),
    /// Delete a snapshot
    #[command(visible_alias = "rm")]
    Delete(SnapshotArgs),
}

/// Which snapshot.
#[derive(Debug, Args)]
pub struct SnapshotArgs {
    /// The snapshot's name
    #[arg(value_name = "SNAPSHOT")]
    pub name: SnapshotName,
}

/// What `kubby snapshot restore` takes.
#[derive(Debug, Args)]
pub struct SnapshotRestoreArgs {
    /// The snapshot's name
    #[arg(value_name = "SNAPSHOT")]
    pub name: SnapshotName,
    /// Leave the cluster off; the next start takes the snapshot up
    #[arg(long)]
    pub no_start: bool,
}

/// What `kubby fork` takes.
#[derive(Debug, Args)]
pub struct ForkArgs {
    /// The new cluster's profile
    #[arg(value_name = "NEW")]
    pub new: ProfileName,
    /// Fork one of the cluster's snapshots instead of what it is now
    #[arg(long, value_name = "SNAPSHOT")]
    pub from: Option<SnapshotName>,
    /// Do not switch kubectl's current context
    #[arg(long)]
    pub keep_context: bool,
    /// Leave the new cluster off; its first start takes it up
    #[arg(long)]
    pub no_start: bool,
}

/// The machines that first starts have saved for later ones.
#[derive(Debug, Subcommand)]
pub enum TemplateCommand {
    /// List the warm templates and the room that they take
    #[command(visible_alias = "ls")]
    List,
    /// Delete warm templates; a start that would have used one is cold and makes it anew
    #[command(visible_alias = "rm")]
    Delete(TemplateDeleteArgs),
    /// Delete the warm templates that no start can use any more
    Prune(TemplatePruneArgs),
    /// Write a warm template to one file, to be imported on another host
    Export(TemplateExportArgs),
    /// Make a warm template of a file that `export` has written
    Import(TemplateImportArgs),
}

/// What `kubby template export` takes.
#[derive(Debug, Args)]
pub struct TemplateExportArgs {
    /// The template's key, or its beginning; may be left out where there is one template only
    #[arg(value_name = "KEY")]
    pub key: Option<String>,
    /// The file to write, or `-` for standard output
    #[arg(long = "file", value_name = "FILE")]
    pub file: PathBuf,
    /// Leave out the node image and the components, for hosts whose cache has them
    #[arg(long)]
    pub without_images: bool,
}

/// What `kubby template import` takes.
#[derive(Debug, Args)]
pub struct TemplateImportArgs {
    /// The file, or `-` for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The SHA-256 that the file must have, as `export` and sha256sum print it
    #[arg(long, value_name = "HEX", value_parser = super::sha256)]
    pub sha256: Option<String>,
    /// libvirt connection that is to have it [default: as for `kubby start`]
    #[arg(long, value_name = "URI")]
    pub connect: Option<String>,
}

/// What `kubby template delete` takes.
#[derive(Debug, Args)]
pub struct TemplateDeleteArgs {
    /// Keys of templates, or their beginnings
    #[arg(required = true, value_name = "KEY")]
    pub keys: Vec<String>,
}

/// What `kubby template prune` takes.
#[derive(Debug, Args)]
pub struct TemplatePruneArgs {
    /// Delete every template
    #[arg(long)]
    pub all: bool,
}
