//! `kubby service`.

use clap::{Args, Subcommand};

/// What `kubby service` takes.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct ServiceArgs {
    /// `list` or `remove`.
    #[command(subcommand)]
    pub command: Option<ServiceCommand>,
    /// The Service, of type NodePort or LoadBalancer
    #[arg(value_name = "SERVICE", required = true)]
    pub name: Option<String>,
    /// Its namespace
    #[arg(short, long, default_value = "default", value_parser = dns_label)]
    pub namespace: String,
    /// Print nothing but URLs
    #[arg(long)]
    pub url: bool,
    /// One of its ports, by name or number [default: all]
    #[arg(long, value_name = "PORT")]
    pub port: Option<String>,
    /// Port on this host's 127.0.0.1 [default: a free one, the same each time]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub host_port: Option<u16>,
    /// Give up when no pod is ready behind it after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=86400))]
    pub wait: u64,
    /// Print https URLs [default: for port 443 and ports that are named so]
    #[arg(long)]
    pub https: bool,
    /// Open the URLs in the browser
    #[arg(long)]
    pub open: bool,
}

/// What else can be done about Services.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// List all Services and where this host reaches them
    #[command(visible_alias = "ls")]
    List(ServiceListArgs),
    /// Close the ports of this host that lead to a Service
    #[command(visible_alias = "rm")]
    Remove(ServiceRemoveArgs),
}

/// What `kubby service list` takes.
#[derive(Debug, Args)]
pub struct ServiceListArgs {
    /// Only this namespace [default: all]
    #[arg(short, long, value_parser = dns_label)]
    pub namespace: Option<String>,
}

/// What `kubby service remove` takes.
#[derive(Debug, Args)]
pub struct ServiceRemoveArgs {
    /// The Service
    #[arg(value_name = "SERVICE")]
    pub name: String,
    /// Its namespace
    #[arg(short, long, default_value = "default", value_parser = dns_label)]
    pub namespace: String,
    /// One of its ports, by name or number [default: all]
    #[arg(long, value_name = "PORT")]
    pub port: Option<String>,
}

/// A namespace becomes part of a URL, so it has to be one.
fn dns_label(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !text.is_empty() && text.len() <= 63 && text.chars().all(good) {
        Ok(text.to_owned())
    } else {
        Err("a namespace has up to 63 lower-case letters, digits and hyphens".into())
    }
}
