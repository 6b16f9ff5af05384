//! The surroundings of an operation, and what it reaches outside of this process.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::api::ApiClient;
use crate::assets::components::{self, ComponentSet};
use crate::assets::node_image::{self, NodeImage};
use crate::egress::HostFacts;
use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::fsutil::{self, Lock};
use crate::hypervisor::{self, AccelFacts, HostInfo, Hypervisor, Libvirt};
use crate::kubeconfig;
use crate::name::ProfileName;
use crate::pki::{self, Pki, PkiSpec};
use crate::progress::Progress;
use crate::remote::{Remote, Ssh, Target};
use crate::store::Store;

/// The surroundings of one operation.
#[derive(Clone, Copy)]
pub(crate) struct Env<'a> {
    /// The home and the cache.
    pub store: &'a Store,
    /// Everything outside of this process.
    pub backend: &'a dyn Backend,
    /// The receiver of progress.
    pub progress: &'a dyn Progress,
}

impl Env<'_> {
    /// Locks a profile against other kubby processes, and says whom it waits for.
    ///
    /// # Errors
    /// As [`Store::lock_profile`].
    pub(crate) fn lock(&self, name: &ProfileName) -> Result<Lock> {
        let lock = self.store.lock_profile(name, |holder| {
            self.progress.note(&format!(
                "waiting for another kubby process that uses `{name}`: {holder}"
            ));
        })?;
        fsutil::remove_unfinished(self.store.profile_dir(name).root(), true)?;
        Ok(lock)
    }

    /// Locks what all profiles of the home share: free ports and the storage pool.
    ///
    /// # Errors
    /// As [`Store::lock_shared`].
    pub(crate) fn lock_shared(&self) -> Result<Lock> {
        self.store.lock_shared(|| {})
    }
}

/// A request for the assets of a cluster.
#[derive(Debug, Clone)]
pub struct AssetRequest<'a> {
    /// The request for the Kubernetes programs.
    pub components: components::Request<'a>,
    /// A prebuilt node image, path or URL, with its SHA-256; without one it is built.
    pub image: Option<(&'a str, Option<&'a str>)>,
}

/// Everything that operations reach outside of this process: libvirt, the nodes, and the assets. Tests
/// have one in memory.
pub trait Backend: Send + Sync {
    /// Connects to the libvirt at a URI.
    ///
    /// # Errors
    /// [`Kind::Preflight`](crate::error::Kind::Preflight) when it cannot be reached.
    fn libvirt(&self, uri: &str) -> Result<Box<dyn Hypervisor>>;

    /// Gathers the facts for and against KVM on a host.
    fn acceleration_facts(&self, host: &HostInfo) -> AccelFacts;

    /// Checks that endpoints can run on this host.
    ///
    /// # Errors
    /// As [`Endpoint::require_program`].
    fn can_have_endpoints(&self) -> Result<()>;

    /// Makes the endpoint of a cluster run; see [`Endpoint::ensure`].
    ///
    /// # Errors
    /// As [`Endpoint::ensure`].
    fn ensure_endpoint(&self, endpoint: &Endpoint, config: &str) -> Result<bool>;

    /// Connects to a node over SSH with one attempt.
    ///
    /// # Errors
    /// As [`Ssh::connect`].
    fn connect(&self, target: &Target, limit: Duration) -> Result<Box<dyn Remote>>;

    /// Connects to a node that may still be booting.
    ///
    /// # Errors
    /// As [`Ssh::connect_when_ready`], and those of `tick`.
    fn connect_when_ready(
        &self,
        target: &Target,
        deadline: Instant,
        tick: &mut dyn FnMut(Duration) -> Result<()>,
    ) -> Result<Box<dyn Remote>>;

    /// Returns the URI of the libvirt that is used unless the user or a profile names another.
    fn default_uri(&self) -> String;

    /// Returns the kubeconfig file of the user.
    ///
    /// # Errors
    /// As [`kubeconfig::default_path`].
    fn kubeconfig(&self) -> Result<PathBuf>;

    /// Creates or renews a cluster's keys and certificates where that is needed.
    ///
    /// # Errors
    /// As [`pki::ensure`].
    fn pki(&self, dir: &Path, spec: &PkiSpec) -> Result<Pki>;

    /// Returns the folder in which image builds have their private folders.
    fn temporary_folder(&self) -> PathBuf;

    /// Reads the host's settings of registries, proxies, authorities and name servers.
    fn host_facts(&self) -> HostFacts;

    /// Returns a client for the API at a port of 127.0.0.1, with PEM texts of the CA to trust and of
    /// the operator's certificate and key.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) when a text is damaged.
    fn api(&self, port: u16, ca: &str, certificate: &str, key: &str) -> Result<ApiClient>;

    /// Gets the node image and the components, from the cache or by making them.
    ///
    /// # Errors
    /// [`Kind::Assets`](crate::error::Kind::Assets) for the one that could not be had.
    fn assets(
        &self,
        request: &AssetRequest<'_>,
        progress: &dyn Progress,
    ) -> Result<(NodeImage, ComponentSet)>;
}

/// The real libvirt, nodes and assets.
#[derive(Debug, Clone, Copy)]
pub struct Real;

impl Backend for Real {
    fn libvirt(&self, uri: &str) -> Result<Box<dyn Hypervisor>> {
        Ok(Box::new(Libvirt::open(uri)?))
    }

    fn acceleration_facts(&self, host: &HostInfo) -> AccelFacts {
        AccelFacts::gather(host)
    }

    fn connect(&self, target: &Target, limit: Duration) -> Result<Box<dyn Remote>> {
        Ok(Box::new(Ssh::connect(target, limit)?))
    }

    fn connect_when_ready(
        &self,
        target: &Target,
        deadline: Instant,
        tick: &mut dyn FnMut(Duration) -> Result<()>,
    ) -> Result<Box<dyn Remote>> {
        Ok(Box::new(Ssh::connect_when_ready(target, deadline, tick)?))
    }

    fn default_uri(&self) -> String {
        hypervisor::default_uri(None)
    }

    fn kubeconfig(&self) -> Result<PathBuf> {
        kubeconfig::default_path()
    }

    fn pki(&self, dir: &Path, spec: &PkiSpec) -> Result<Pki> {
        pki::ensure(dir, spec)
    }

    fn temporary_folder(&self) -> PathBuf {
        std::env::temp_dir()
    }

    fn host_facts(&self) -> HostFacts {
        HostFacts::read()
    }

    fn can_have_endpoints(&self) -> Result<()> {
        Endpoint::require_program().map(drop)
    }

    fn ensure_endpoint(&self, endpoint: &Endpoint, config: &str) -> Result<bool> {
        endpoint.ensure(config)
    }

    fn api(&self, port: u16, ca: &str, certificate: &str, key: &str) -> Result<ApiClient> {
        ApiClient::new(port, ca, certificate, key)
    }

    fn assets(
        &self,
        request: &AssetRequest<'_>,
        progress: &dyn Progress,
    ) -> Result<(NodeImage, ComponentSet)> {
        // Both may take minutes on a first start, and neither needs the other.
        let (image, components) = std::thread::scope(|scope| {
            let components = scope.spawn(|| components::ensure(&request.components, progress));
            let image = match request.image {
                Some((source, sha256)) => {
                    node_image::prebuilt(source, sha256, request.components.cache, progress)
                }
                None => node_image::build(request.components.cache, false, progress),
            };
            let components = components.join().unwrap_or_else(|_| {
                Err(Error::internal("getting the components ended in a panic"))
            });
            (image, components)
        });
        Ok((image?, components?))
    }
}
