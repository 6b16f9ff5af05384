//! The numbers of a cluster's nodes of each role: those that it has, and those that are asked for.

use crate::cluster::spec::{ClusterArgs, MOST_CONTROL_PLANES, MOST_NODES};
use crate::error::{Error, Result};
use crate::profile::Profile;
use crate::role::Role;

/// The numbers of nodes that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeCounts {
    /// Control planes.
    pub(crate) control_planes: usize,
    /// Workers.
    pub(crate) workers: usize,
}

/// One worker, for tests.
#[cfg(test)]
pub(crate) const WORKER: NodeCounts = NodeCounts {
    control_planes: 0,
    workers: 1,
};

impl NodeCounts {
    /// Returns the numbers that a profile has.
    pub(crate) fn of(profile: &Profile) -> Self {
        let count = |role| profile.of_role(role).count();
        NodeCounts {
            control_planes: count(Role::ControlPlane),
            workers: count(Role::Worker),
        }
    }
}

impl ClusterArgs {
    /// Returns the numbers of nodes that are asked for in a cluster with this profile.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::error::Kind::Usage) for fewer nodes in all than control planes, and for too many.
    pub(crate) fn counts(&self, profile: &Profile) -> Result<NodeCounts> {
        self.counts_beside(NodeCounts::of(profile))
    }

    /// Returns the same beside the numbers that a cluster has.
    ///
    /// # Errors
    /// As [`ClusterArgs::counts`].
    pub(crate) fn counts_beside(&self, has: NodeCounts) -> Result<NodeCounts> {
        let control_planes = self.control_planes.map_or(has.control_planes, usize::from);
        let workers = match (self.workers, self.nodes) {
            (Some(workers), _) => workers.into(),
            (None, Some(nodes)) => usize::from(nodes).checked_sub(control_planes).ok_or_else(
                || {
                    Error::usage(format!(
                        "--nodes {nodes}: that is fewer than the {control_planes} control planes"
                    ))
                },
            )?,
            (None, None) => has.workers,
        };
        for (what, asked, most) in [
            ("control planes", control_planes, MOST_CONTROL_PLANES),
            ("nodes", control_planes + workers, MOST_NODES),
        ] {
            if i64::try_from(asked).unwrap_or(i64::MAX) > most {
                return Err(Error::usage(format!(
                    "{asked} {what} are too many: a cluster can have {most}"
                )));
            }
        }
        Ok(NodeCounts {
            control_planes,
            workers,
        })
    }
}
