//! The files of one profile.

use std::path::{Path, PathBuf};

use crate::error::{Kind, Result, ResultExt};
use crate::fsutil;

/// The files of one profile.
#[derive(Debug, Clone)]
pub struct ProfileDir {
    root: PathBuf,
}

impl ProfileDir {
    /// The layout of a profile's folder elsewhere: a saved state's, for example.
    pub fn at(root: PathBuf) -> Self {
        ProfileDir { root }
    }
    /// The folder itself, 0700.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// Returns the file with the settings of the cluster.
    pub fn profile(&self) -> PathBuf {
        self.root.join("profile.toml")
    }
    /// The profile's file as an earlier version of it left it.
    pub fn earlier_profile(&self, version: u32) -> PathBuf {
        self.root.join(format!("profile.toml.v{version}"))
    }
    /// Keys and certificates of the cluster.
    pub fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }
    /// The operator's SSH key, OpenSSH format, 0600; its public part beside it.
    pub fn ssh_key(&self) -> PathBuf {
        self.root.join("ssh/id_ed25519")
    }
    /// The node's own SSH host key, 0600; its public part beside it.
    pub fn host_key(&self) -> PathBuf {
        self.root.join("ssh/host_ed25519")
    }
    /// The folder of a node beside the first, laid out as this one: with keys, certificates and marks of
    /// its own.
    pub fn node(&self, name: &str) -> ProfileDir {
        ProfileDir::at(self.root.join("nodes").join(name))
    }
    /// The files of the program that leads to the control planes.
    pub fn endpoint(&self) -> PathBuf {
        self.root.join("endpoint")
    }
    /// The node's private key for its links to other nodes, Base64, 0600.
    pub fn link_key(&self) -> PathBuf {
        self.root.join("link.key")
    }
    /// Add-ons of the user's own, as they were when they were enabled.
    pub fn addons(&self) -> PathBuf {
        self.root.join("addons")
    }
    /// The identity that the node still has when this cluster began as a copy of another; gone
    /// once the node has its own. Laid out as this folder.
    pub fn handover(&self) -> PathBuf {
        self.root.join("handover")
    }
    /// Returns the folder from which [`handover`](Self::handover) gets its content as a whole. It is
    /// named as unfinished saved states are, and removed with them.
    pub(crate) fn handover_staging(&self) -> ProfileDir {
        ProfileDir::at(self.root.join("handover.partial"))
    }
    /// A mark that is there until the machine runs for the first time, see
    /// [`machine_runs`](Self::machine_runs).
    pub fn never_ran(&self) -> PathBuf {
        self.root.join("never-ran")
    }
    /// Removes the mark permanently, which has to happen before the machine's first instruction: a
    /// machine with the mark contains no data, and the next start replaces it.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the file system refuses.
    pub fn machine_runs(&self) -> Result<()> {
        fsutil::remove_all(&self.never_ran())?;
        // It must not come back with a power loss.
        std::fs::File::open(&self.root)
            .and_then(|folder| folder.sync_all())
            .context(Kind::Internal, || {
                format!("cannot sync {}", self.root.display())
            })
    }
    /// Saved states that the user made, one folder each.
    pub fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }
    /// The saved state of the source that a fork is made from, until it is made.
    pub(crate) fn fork_origin(&self) -> PathBuf {
        self.root.join("origin")
    }
    /// The saved state of a cluster that is suspended.
    pub fn suspended(&self) -> PathBuf {
        self.root.join("suspended")
    }
    /// The mark of a throwaway cluster, which its process holds a lock on.
    pub fn throwaway(&self) -> PathBuf {
        self.root.join("throwaway")
    }
    /// Programs that fit the cluster, for the search path of a command that is run on it.
    pub fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }
    /// A kubeconfig with this cluster alone, 0600.
    pub fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }
}
