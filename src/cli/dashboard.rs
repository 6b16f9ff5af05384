//! The command line of `kubby dashboard`.

use clap::Args;

/// The arguments of `kubby dashboard`.
#[derive(Debug, Args)]
pub struct DashboardArgs {
    /// Print the URL only; do not open a browser
    #[arg(long)]
    pub url: bool,
    /// Port on 127.0.0.1 [default: a free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Allow no changes through the page
    #[arg(long)]
    pub read_only: bool,
}
