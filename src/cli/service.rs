//! The command line of `kubby service`.

use clap::{Args, Subcommand};

/// The arguments of `kubby service`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_long_help = "\
Examples:
  kubby service web                     forward all ports and print their URLs
  curl \"$(kubby service web --url)\"     for scripts
  kubby service web -n shop --port http --host-port 8080
  kubby service list")]
pub struct ServiceArgs {
    /// `list` or `remove`.
    #[command(subcommand)]
    pub command: Option<ServiceCommand>,
    /// Service of type NodePort or LoadBalancer
    #[arg(value_name = "SERVICE", required = true)]
    pub name: Option<String>,
    /// Namespace of the Service
    #[arg(short, long, default_value = "default", value_parser = dns_label)]
    pub namespace: String,
    /// Print the URLs only
    #[arg(long)]
    pub url: bool,
    /// Port of the Service, by name or number [default: all]
    #[arg(long, value_name = "PORT")]
    pub port: Option<String>,
    /// Port on 127.0.0.1 [default: a free one, kept for the next time]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub host_port: Option<u16>,
    /// Fail if none of the Service's pods is ready within SECONDS
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=86400))]
    pub wait: u64,
    /// Print https URLs [default: for port 443 and for ports named https]
    #[arg(long)]
    pub https: bool,
    /// Open the URLs in a browser
    #[arg(long)]
    pub open: bool,
}

/// The further commands of `kubby service`.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// List all Services and their URLs on this host
    #[command(visible_alias = "ls")]
    List {
        /// List this namespace only [default: all]
        #[arg(short, long, value_parser = dns_label)]
        namespace: Option<String>,
    },
    /// Close the ports of this host that lead to a Service
    #[command(visible_alias = "rm")]
    Remove {
        /// Name of the Service
        #[arg(value_name = "SERVICE")]
        name: String,
        /// Namespace of the Service
        #[arg(short, long, default_value = "default", value_parser = dns_label)]
        namespace: String,
        /// Port of the Service, by name or number [default: all]
        #[arg(long, value_name = "PORT")]
        port: Option<String>,
    },
}

/// Checks a namespace, which becomes part of a URL.
fn dns_label(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !text.is_empty() && text.len() <= 63 && text.chars().all(good) {
        Ok(text.to_owned())
    } else {
        Err("a namespace has up to 63 lower-case letters, digits and hyphens".into())
    }
}
