//! `kubby certs`.

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};

use crate::pki::CertName;

/// What there is to do with certificates.
#[derive(Debug, Subcommand)]
pub enum CertsCommand {
    /// List the cluster's certificates, when they end and which the next start renews
    #[command(visible_aliases = ["ls", "check"])]
    List,
    /// Make certificates anew now, restart what uses them, and wait until it is healthy
    Renew(CertsRenewArgs),
}

/// What `kubby certs renew` takes.
#[derive(Debug, Args)]
pub struct CertsRenewArgs {
    /// Names as `kubby certs list` shows them [default: all but the authorities]
    #[arg(value_name = "NAME", value_parser = PossibleValuesParser::new(CertName::ALL.map(CertName::stem)), hide_possible_values = true)]
    pub names: Vec<String>,
    /// Renew all but the authorities, as without names
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
}
