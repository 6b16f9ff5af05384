//! The command line of `kubby node`.

use clap::Subcommand;

use crate::units::{Mebibytes, Milliseconds, Percent};

/// The commands of `kubby node`.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// List the nodes with their roles, states and addresses
    #[command(visible_alias = "ls")]
    List,
    /// Add nodes and wait until they are ready
    Add {
        /// Number of workers to add [default: 1, or none with --control-planes]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
        workers: Option<u8>,
        /// Number of control planes to add
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=6))]
        control_planes: Option<u8>,
        /// Number of virtual CPUs of each worker [default: as the control plane; emulated ones at
        /// most half of the host's processors]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
        cpus: Option<u32>,
        /// Memory of each worker, in MiB or with a unit [default: 2GiB]
        #[arg(long, value_name = "SIZE")]
        memory: Option<Mebibytes>,
    },
    /// Move a node's pods to other nodes, and delete the node with its machine and disk
    Delete {
        /// Name of the node
        #[arg(value_name = "NAME")]
        node: String,
        /// Delete it even if its pods cannot be moved
        #[arg(long)]
        force: bool,
        /// Delete the data of local volumes on its disk too
        #[arg(long)]
        delete_data: bool,
        /// Give up moving pods after SECONDS
        #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=3600))]
        timeout: u64,
    },
    /// Start a node's machine again and wait until the node is ready
    Start {
        /// Name of the node
        #[arg(value_name = "NAME")]
        node: String,
    },
    /// Shut a node's machine down; its data stays
    Stop {
        /// Name of the node
        #[arg(value_name = "NAME")]
        node: String,
        /// Power the machine off at once, without shutting it down
        #[arg(long)]
        force: bool,
    },
    /// Cut a node off from other nodes until `node connect` or the next start
    ///
    /// Replaces the faults that the node had before.
    Disconnect {
        /// Name of the node
        #[arg(value_name = "NAME")]
        node: String,
        /// Cut it off from this node only; can be given several times [default: from all]
        #[arg(long, value_name = "NODE")]
        from: Vec<String>,
    },
    /// Connect a node to the other nodes again, if asked for with lost or late packets
    ///
    /// Replaces the faults that the node had before. What `node disconnect` did to another node stays.
    Connect {
        /// Name of the node
        #[arg(value_name = "NAME")]
        node: String,
        /// Lose this share of the packets that it sends to other nodes
        #[arg(
            long,
            value_name = "PERCENT",
            default_value = "0",
            hide_default_value = true
        )]
        loss: Percent,
        /// Delay the packets that it sends to other nodes, in milliseconds or with a unit
        #[arg(
            long,
            value_name = "TIME",
            default_value = "0",
            hide_default_value = true
        )]
        delay: Milliseconds,
    },
}
