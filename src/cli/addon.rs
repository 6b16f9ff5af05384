//! `kubby addon`.

use clap::{Args, Subcommand};

/// What an add-on is there for.
#[derive(Debug, Subcommand)]
pub enum AddonCommand {
    /// List the add-ons and which are enabled
    #[command(visible_alias = "ls")]
    List,
    /// Bring add-ons into the cluster, and wait until they are at work
    Enable(AddonEnableArgs),
    /// Take add-ons out of the cluster
    Disable(AddonDisableArgs),
    /// Print the manifests of an add-on
    Show(AddonShowArgs),
}

/// What `kubby addon enable` takes.
#[derive(Debug, Args)]
pub struct AddonEnableArgs {
    /// Names of add-ons, or folders with manifests of your own (./DIR)
    #[arg(required = true, value_name = "NAME|DIR")]
    pub addons: Vec<String>,
    /// Put back what others have changed in its objects
    #[arg(long)]
    pub force: bool,
}

/// What `kubby addon disable` takes.
#[derive(Debug, Args)]
pub struct AddonDisableArgs {
    /// Names of add-ons
    #[arg(required = true, value_name = "NAME")]
    pub addons: Vec<String>,
}

/// What `kubby addon show` takes.
#[derive(Debug, Args)]
pub struct AddonShowArgs {
    /// Name of an add-on, or a folder of your own (./DIR)
    #[arg(value_name = "NAME|DIR")]
    pub addon: String,
}
