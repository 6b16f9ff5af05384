//! Operators in memory: a home, a terminal in it, and the commands that are typed there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::api::Api;
use super::host::Libvirt;
use super::keys;
use super::node::Session;
use super::world::{URI, World};
use crate::api::ApiClient;
use crate::assets::components::ComponentSet;
use crate::assets::node_image::NodeImage;
use crate::cluster::env::{AssetRequest, Backend, Env};
use crate::cluster::spec::{ClusterArgs, StartOptions};
use crate::egress::HostFacts;
use crate::endpoint::Endpoint;
use crate::error::Result;
use crate::hypervisor::{AccelFacts, HostInfo, Hypervisor, KvmDevice};
use crate::pki::{Pki, PkiSpec};
use crate::process::simulated::{KillAt, Killed, Process};
use crate::progress::{Progress, Silent};
use crate::remote::{Remote, Target};
use crate::store::Store;

/// A home on the host in memory.
pub(super) struct Operator {
    pub(super) world: Arc<World>,
    pub(super) store: Store,
    /// The kubeconfig of the user.
    pub(super) kubeconfig: PathBuf,
    /// The folder of the assets, which all homes share.
    assets: PathBuf,
}

/// The parts that one process reaches.
struct Terminal {
    world: Arc<World>,
    process: Arc<Process>,
    kubeconfig: PathBuf,
    assets: PathBuf,
}

impl Operator {
    /// Returns a home in a folder; the kubeconfig and the assets are the folder's.
    pub(super) fn new(world: &Arc<World>, root: &Path, home: &str) -> Self {
        let assets = root.join("assets");
        std::fs::create_dir_all(&assets).unwrap();
        for name in ["disk", "kernel", "initrd", "components", "kubectl"] {
            std::fs::write(assets.join(name), name).unwrap();
        }
        Operator {
            world: Arc::clone(world),
            store: Store::at(&root.join(home), &root.join("cache")),
            kubeconfig: root.join("kube/config"),
            assets,
        }
    }

    /// Runs a command in a process, which is killed at the given place.
    pub(super) fn run<T>(
        &self,
        kill_at: Option<KillAt>,
        command: impl FnOnce(&Env<'_>) -> T,
    ) -> (Result<T, Killed>, Arc<Process>) {
        let world = Arc::clone(&self.world);
        let process = Process::new(kill_at, move |port| world.is_port_taken(port));
        let terminal = Terminal {
            world: Arc::clone(&self.world),
            process: Arc::clone(&process),
            kubeconfig: self.kubeconfig.clone(),
            assets: self.assets.clone(),
        };
        let env = Env {
            store: &self.store,
            backend: &terminal,
            progress: &Silent,
        };
        (process.run(|| command(&env)), process)
    }

    /// Runs a command to its end.
    pub(super) fn complete<T>(&self, command: impl FnOnce(&Env<'_>) -> T) -> T {
        self.run(None, command).0.unwrap()
    }
}

/// Returns the options of a start; without add-ons, which take most of its time.
pub(super) fn options(addons: bool) -> StartOptions {
    let none = match addons {
        true => Vec::new(),
        false => crate::addon::default_names(),
    };
    StartOptions {
        cluster: ClusterArgs {
            no_addon: none,
            ..ClusterArgs::default()
        },
        ..StartOptions::default()
    }
}

impl Backend for Terminal {
    fn libvirt(&self, uri: &str) -> Result<Box<dyn Hypervisor>> {
        assert_eq!(uri, URI);
        Ok(Box::new(Libvirt {
            world: Arc::clone(&self.world),
        }))
    }

    fn acceleration_facts(&self, _: &HostInfo) -> AccelFacts {
        AccelFacts {
            cpu_extensions: true,
            device: KvmDevice::Usable,
            libvirt_kvm: true,
        }
    }

    fn connect(&self, target: &Target, _limit: Duration) -> Result<Box<dyn Remote>> {
        self.process.enter();
        Ok(Box::new(Session::open(&self.world, target)?))
    }

    fn connect_when_ready(
        &self,
        target: &Target,
        _deadline: Instant,
        tick: &mut dyn FnMut(Duration) -> Result<()>,
    ) -> Result<Box<dyn Remote>> {
        self.process.enter();
        tick(Duration::ZERO)?;
        Ok(Box::new(Session::open(&self.world, target)?))
    }

    fn default_uri(&self) -> String {
        URI.to_owned()
    }

    fn kubeconfig(&self) -> Result<PathBuf> {
        Ok(self.kubeconfig.clone())
    }

    fn pki(&self, dir: &Path, spec: &PkiSpec) -> Result<Pki> {
        keys::ensure(dir, spec)
    }

    fn temporary_folder(&self) -> PathBuf {
        self.assets.clone()
    }

    fn host_facts(&self) -> HostFacts {
        HostFacts::default()
    }

    fn can_have_endpoints(&self) -> Result<()> {
        Ok(())
    }

    fn ensure_endpoint(&self, _: &Endpoint, _: &str) -> Result<bool> {
        Ok(false)
    }

    fn api(&self, port: u16, ca: &str, certificate: &str, _key: &str) -> Result<ApiClient> {
        Ok(ApiClient::over(Api {
            world: Arc::clone(&self.world),
            port,
            ca: ca.to_owned(),
            certificate: certificate.to_owned(),
        }))
    }

    fn assets(
        &self,
        request: &AssetRequest<'_>,
        _: &dyn Progress,
    ) -> Result<(NodeImage, ComponentSet)> {
        let file = |name: &str| self.assets.join(name);
        let image = NodeImage {
            key: "image".into(),
            disk: file("disk"),
            kernel: file("kernel"),
            initrd: file("initrd"),
            virtual_size: 1 << 30,
        };
        let components = ComponentSet {
            version: request.components.version,
            key: "components".into(),
            volume: file("components"),
            kubectl: file("kubectl"),
            buildctl: file("kubectl"),
            images: [("pause".to_owned(), "registry.k8s.io/pause:3".to_owned())].into(),
            etcd_version: "3.7.3".into(),
            coredns_version: "1.15.0".into(),
            origin: "download".into(),
        };
        Ok((image, components))
    }
}
