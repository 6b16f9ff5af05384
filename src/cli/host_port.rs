//! The command line of `kubby host-port`.

use clap::Subcommand;

use crate::host_port::{Callers, NamedPort};

/// The commands of `kubby host-port`.
#[derive(Debug, Subcommand)]
#[command(after_long_help = "\
Pods and nodes know this host as host.kubby.internal. Its loopback is closed to them but for these ports.

Examples:
  kubby host-port add 8099              a program on 127.0.0.1:8099 of this host
  kubby host-port add 9443 --from api   a webhook, for kube-apiserver and not for pods
  kubby host-port remove 8099")]
pub enum HostPortCommand {
    /// Open a port of this host's 127.0.0.1 to the cluster
    Add {
        /// Port, with /udp for datagrams
        #[arg(value_name = "PORT[/udp]")]
        port: NamedPort,
        /// Programs that may connect to it
        #[arg(long, value_enum, value_name = "WHO", default_value_t)]
        from: Callers,
    },
    /// List the ports of this host that are open to the cluster
    #[command(visible_alias = "ls")]
    List,
    /// Close a port again
    #[command(visible_alias = "rm")]
    Remove {
        /// Port, with /udp for datagrams
        #[arg(value_name = "PORT[/udp]")]
        port: NamedPort,
    },
}
