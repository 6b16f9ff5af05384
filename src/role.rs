//! The roles of nodes in a cluster.

use serde::{Deserialize, Serialize};

/// The role of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The node runs etcd and the control plane, and pods as well.
    ControlPlane,
    /// The node runs pods only.
    Worker,
}
