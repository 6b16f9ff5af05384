//! `kubby dashboard`.

use clap::Args;

/// What `kubby dashboard` takes.
#[derive(Debug, Args)]
pub struct DashboardArgs {
    /// Print the address and open no browser
    #[arg(long)]
    pub url: bool,
    /// Port on this host's 127.0.0.1 [default: a free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Let nothing be changed through the page
    #[arg(long)]
    pub read_only: bool,
}
