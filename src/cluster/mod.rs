//! Clusters and what is done with them.
//!
//! A [`Cluster`] has a profile, a folder and nodes; each node has one machine on one host. `start` is a
//! list of steps; every other command is one file in `operations` or `saved`. Imports lead one way:
//! `operations`, `start`, `saved`, `machine`.

pub(crate) mod addons;
pub(crate) mod context;
pub(crate) mod counts;
pub(crate) mod env;
pub(crate) mod node;
pub(crate) mod nodes;
pub(crate) mod operations;
pub(crate) mod policies;
pub(crate) mod saved;
pub(crate) mod spec;
pub(crate) mod start;
pub(crate) mod template_key;
pub(crate) mod throwaway_mark;

pub(crate) mod machine;

use std::time::Duration;

use crate::api::ApiClient;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil::{self, Lock};
use crate::hypervisor::Acceleration;
use crate::name::ProfileName;
use crate::pki::{CertName, Pki};
use crate::profile::{NodeProfile, Profile};
use crate::remote::Target;
use crate::store::{ProfileDir, Store};

use env::{Backend, Env};
use node::Node;

/// A cluster that exists: its profile and its folder.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The profile.
    pub profile: Profile,
    /// The folder with the profile, the keys and the certificates.
    pub dir: ProfileDir,
}

impl Cluster {
    /// Opens a cluster.
    ///
    /// # Errors
    /// [`Kind::State`] if it does not exist or its profile is damaged.
    pub fn open(store: &Store, name: &ProfileName) -> Result<Self> {
        let dir = store.profile_dir(name);
        match Profile::load(&dir)? {
            Some(profile) => Ok(Cluster { profile, dir }),
            None => Err(absent(store, name)),
        }
    }

    /// Opens a cluster and locks it. One that does not exist is an error before anything is created
    /// for the lock.
    ///
    /// # Errors
    /// As [`Cluster::open`] and [`Store::lock_profile`].
    pub(crate) fn open_locked(env: &Env<'_>, name: &ProfileName) -> Result<(Self, Lock)> {
        if !env.store.profile_dir(name).root().exists() {
            return Err(absent(env.store, name));
        }
        let lock = env.lock(name)?;
        Ok((Cluster::open(env.store, name)?, lock))
    }

    /// Returns the profile's name.
    pub fn name(&self) -> &ProfileName {
        &self.profile.name
    }

    /// Returns the flag that selects the cluster, for commands in messages.
    pub fn flag(&self) -> String {
        self.profile.name.flag()
    }

    /// Saves the profile.
    ///
    /// # Errors
    /// As [`Profile::save`].
    pub(crate) fn save(&self) -> Result<()> {
        self.profile.save(&self.dir)
    }

    /// Returns the first control plane, which commands on "the node" mean.
    ///
    /// # Errors
    /// [`Kind::State`] when its keys are missing.
    pub fn node(&self) -> Result<Node> {
        self.node_of(self.profile.first())
    }

    /// Returns all nodes.
    ///
    /// # Errors
    /// [`Kind::State`] when keys of one are missing.
    pub(crate) fn nodes(&self) -> Result<Vec<Node>> {
        let nodes = self.profile.nodes.iter();
        nodes.map(|node| self.node_of(node)).collect()
    }

    fn node_of(&self, node: &NodeProfile) -> Result<Node> {
        Ok(Node {
            name: node.name.clone(),
            role: node.role,
            cluster: self.profile.name.clone(),
            acceleration: self.acceleration(),
            programs: fsutil::folder_of(&self.profile.assets.kubectl).to_owned(),
            target: self.target_of(node)?,
        })
    }

    /// Returns the node with this name, or the first one where none is named.
    ///
    /// # Errors
    /// [`Kind::State`] for a name that no node has.
    pub(crate) fn find_node(&self, name: Option<&str>) -> Result<&NodeProfile> {
        let Some(name) = name else {
            return Ok(self.profile.first());
        };
        let mut nodes = self.profile.nodes.iter();
        nodes.find(|node| node.name == name).ok_or_else(|| {
            let nodes = self.profile.nodes.iter();
            let names: Vec<&str> = nodes.map(|node| node.name.as_str()).collect();
            Error::state(format!(
                "the cluster `{}` has no node named `{name}`",
                self.profile.name
            ))
            .with_hint(format!("its nodes are: {}", names.join(", ")))
        })
    }

    /// Returns the folder with a node's keys, certificates and marks: the first one's is the cluster's own.
    pub(crate) fn node_dir(&self, node: &NodeProfile) -> ProfileDir {
        match node.name == self.profile.first().name {
            true => self.dir.clone(),
            false => self.dir.node(&node.name),
        }
    }

    /// Returns how the first node's machine is run.
    pub fn acceleration(&self) -> Acceleration {
        self.profile.first().machine.acceleration
    }

    /// Scales a limit that was measured with hardware virtualisation to how the machine is run.
    pub fn deadline(&self, with_kvm: Duration) -> Duration {
        with_kvm * self.acceleration().deadline_factor()
    }

    /// Returns the first node's SSH server, with the keys of both sides.
    ///
    /// # Errors
    /// [`Kind::State`] when the cluster's keys are missing.
    pub fn target(&self) -> Result<Target> {
        self.target_of(self.profile.first())
    }

    /// Returns a node's SSH server, with the keys of both sides.
    ///
    /// # Errors
    /// As [`Cluster::target`].
    pub(crate) fn target_of(&self, node: &NodeProfile) -> Result<Target> {
        self.target_with(node, &self.node_dir(node))
    }

    /// Returns the same with the keys of another folder.
    ///
    /// # Errors
    /// As [`Cluster::target`].
    pub(crate) fn target_with(&self, node: &NodeProfile, keys: &ProfileDir) -> Result<Target> {
        let public = keys.host_key().with_extension("pub");
        let host_key = std::fs::read_to_string(&public).context(Kind::State, || {
            format!("cannot read the node's host key {}", public.display())
        })?;
        Ok(Target {
            host: "127.0.0.1".into(),
            port: node.ports.ssh,
            user: "root".into(),
            private_key: keys.ssh_key(),
            host_key: host_key.trim().to_owned(),
        })
    }

    /// Returns a client for the cluster's API as the operator.
    ///
    /// # Errors
    /// [`Kind::State`] when the cluster's certificates are missing or damaged.
    pub fn api(&self, backend: &dyn Backend) -> Result<ApiClient> {
        self.api_on(backend, self.profile.api_port())
    }

    /// Returns the same for the kube-apiserver of one control plane.
    ///
    /// # Errors
    /// As [`Cluster::api`].
    pub(crate) fn api_of(&self, backend: &dyn Backend, node: &NodeProfile) -> Result<ApiClient> {
        self.api_on(backend, node.ports.api.unwrap_or_default())
    }

    fn api_on(&self, backend: &dyn Backend, port: u16) -> Result<ApiClient> {
        let read = |name: &str| {
            let path = self.dir.pki().join(name);
            std::fs::read_to_string(&path)
                .context(Kind::State, || format!("cannot read {}", path.display()))
        };
        backend.api(
            port,
            &read("ca.crt")?,
            &read("admin.crt")?,
            &read("admin.key")?,
        )
    }

    /// Returns the same with certificates that were read already.
    ///
    /// # Errors
    /// [`Kind::State`] when a certificate is damaged.
    pub(crate) fn api_with(&self, backend: &dyn Backend, pki: &Pki) -> Result<ApiClient> {
        backend.api(
            self.profile.api_port(),
            pki.cert(CertName::Ca),
            pki.cert(CertName::Admin),
            pki.key(CertName::Admin),
        )
    }
}

/// Returns the error for a cluster that does not exist in this home.
fn absent(store: &Store, name: &ProfileName) -> Error {
    Error::state(format!("there is no cluster named `{name}`"))
        .with_hint(format!("kubby start{} creates it", name.flag()))
        .with_hint(format!(
            "kubby list shows the clusters of this home, {}",
            store.home().display()
        ))
}
