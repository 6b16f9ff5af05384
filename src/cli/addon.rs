//! The command line of `kubby addon`.

use clap::Subcommand;

/// The commands of `kubby addon`.
#[derive(Debug, Subcommand)]
pub enum AddonCommand {
    /// List all add-ons and show which are enabled
    #[command(visible_alias = "ls")]
    List,
    /// Enable add-ons and wait until they are ready
    #[command(after_long_help = "\
Examples:
  kubby addon enable metrics registry
  kubby addon enable ./my-addon          a folder with manifests of your own")]
    Enable {
        /// Names of add-ons, or folders with manifests of your own (./DIR)
        #[arg(required = true, value_name = "NAME|DIR")]
        addons: Vec<String>,
        /// Overwrite changes that others have made to its objects
        #[arg(long)]
        force: bool,
    },
    /// Disable add-ons and remove their objects
    Disable {
        /// Names of add-ons
        #[arg(required = true, value_name = "NAME")]
        addons: Vec<String>,
    },
    /// Print the manifests of an add-on
    Show {
        /// Name of an add-on, or a folder with manifests of your own (./DIR)
        #[arg(value_name = "NAME|DIR")]
        addon: String,
    },
}
