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

impl Role {
    /// Returns its name for people, as minikube's users know it.
    pub fn title(self) -> &'static str {
        match self {
            Role::ControlPlane => "Control Plane",
            Role::Worker => "Worker",
        }
    }

    /// Returns its name in profiles, labels and results.
    pub fn name(self) -> &'static str {
        match self {
            Role::ControlPlane => "control-plane",
            Role::Worker => "worker",
        }
    }
}
