//! The roles of nodes.

/// The part that a node has in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs etcd and the programs that manage the cluster, and pods as well.
    ControlPlane,
    /// Runs pods only.
    Worker,
}
