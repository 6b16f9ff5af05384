//! A node: a member of a cluster, and how it is reached over SSH.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::Result;
use crate::hypervisor::Acceleration;
use crate::name::ProfileName;
use crate::remote::{Ssh, Target};
use crate::role::Role;

/// The time limit of the SSH connection to a node that runs, with hardware virtualisation.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// A member of Kubernetes on a machine that runs.
#[derive(Debug, Clone)]
pub struct Node {
    /// The name of its Node object.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// The cluster that it belongs to.
    pub cluster: ProfileName,
    /// Its machine's acceleration.
    pub acceleration: Acceleration,
    /// The folder with the host's programs of the cluster's version.
    pub programs: PathBuf,
    /// Its SSH server, with the keys of both sides.
    pub target: Target,
}

impl Node {
    /// Connects over SSH within `with_kvm`, scaled to how the machine is run.
    ///
    /// # Errors
    /// As [`Ssh::connect`].
    pub fn connect(&self, with_kvm: Duration) -> Result<Ssh> {
        Ssh::connect(&self.target, self.deadline(with_kvm))
    }

    /// Scales a limit that was measured with hardware virtualisation to how the machine is run.
    pub fn deadline(&self, with_kvm: Duration) -> Duration {
        with_kvm * self.acceleration.deadline_factor()
    }

    /// Returns the flag that selects the cluster, for commands in messages.
    pub fn flag(&self) -> String {
        self.cluster.flag()
    }
}
