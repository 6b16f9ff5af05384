//! The command line of `kubby addon`.

use clap::{Args, Subcommand};

/// The commands of `kubby addon`.
#[derive(Debug, Subcommand)]
pub enum AddonCommand {
    /// List all add-ons and show which are enabled
    #[command(visible_alias = "ls")]
    List,
    /// Enable add-ons and wait until they are ready
    Enable(AddonEnableArgs),
    /// Disable add-ons and remove their objects
    Disable(AddonDisableArgs),
    /// Print the manifests of an add-on
    Show(AddonShowArgs),
}

/// The arguments of `kubby addon enable`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  kubby addon enable metrics registry
  kubby addon enable ./my-addon          a folder with manifests of your own")]
pub struct AddonEnableArgs {
    /// Names of add-ons, or folders with manifests of your own (./DIR)
    #[arg(required = true, value_name = "NAME|DIR")]
    pub addons: Vec<String>,
    /// Overwrite changes that others have made to its objects
    #[arg(long)]
    pub force: bool,
}

/// The arguments of `kubby addon disable`.
#[derive(Debug, Args)]
pub struct AddonDisableArgs {
    /// Names of add-ons
    #[arg(required = true, value_name = "NAME")]
    pub addons: Vec<String>,
}

/// The arguments of `kubby addon show`.
#[derive(Debug, Args)]
pub struct AddonShowArgs {
    /// Name of an add-on, or a folder with manifests of your own (./DIR)
    #[arg(value_name = "NAME|DIR")]
    pub addon: String,
}
