//! The command line of `kubby certs`.

use clap::Subcommand;
use clap::builder::PossibleValuesParser;

use crate::pki::CertName;

/// The commands of `kubby certs`.
#[derive(Debug, Subcommand)]
pub enum CertsCommand {
    /// List the cluster's certificates, their expiry and which the next start renews
    #[command(visible_aliases = ["ls", "check"])]
    List,
    /// Renew certificates now, restart what uses them, and wait until the cluster is healthy
    Renew {
        /// Names as shown by `kubby certs list` [default: all except the CAs]
        #[arg(value_name = "NAME", value_parser = PossibleValuesParser::new(CertName::ALL.map(CertName::stem)), hide_possible_values = true)]
        names: Vec<String>,
        /// Renew all except the CAs (the default without names)
        #[arg(long, conflicts_with = "names")]
        all: bool,
    },
}
