//! A home with one stopped cluster that never ran: all that the doctor looks at is real, and small.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kubby::testing::hypervisor::{
    Acceleration, DomainSpec, Hypervisor, Libvirt, Owner, POOL_MARK, Saving,
};
use kubby::testing::kubeconfig::{self, Entry};
use kubby::testing::pki::{self, CertName, Pki, PkiSpec};
use kubby::testing::profile::{
    Assets, ClusterSpec, FILE_VERSION, MachineSpec, NodeProfile, Ports, Profile, ProfileName,
};
use kubby::testing::progress::{Progress, Silent};
use kubby::testing::role::Role;
use kubby::testing::store::{ProfileDir, Store};
use kubby::testing::units::Mebibytes;
use time::OffsetDateTime;

use crate::env::{Env, uri};
use crate::program::Run;

/// The key of the images, which are never booted.
const KEY: &str = "00112233445566778899aabbccddeeff";

pub struct Place<'e> {
    pub env: &'e Env,
    pub store: Store,
    pub libvirt: Libvirt,
    pub name: ProfileName,
    pub profile: Profile,
    pub dir: ProfileDir,
}

impl<'e> Place<'e> {
    pub fn make(env: &'e Env) -> Self {
        // What a test that failed has left.
        if env.home().exists() {
            env.kubby(&["delete", "--all"]).ok();
        }
        let store = Store::at(&env.home(), &env.root().join("cache"));
        let name: ProfileName = format!("{}-doc", env.profile).parse().expect("a name");
        let dir = store.profile_dir(&name);
        let ports =
            kubby::testing::hypervisor::ports::find_free(2, &Default::default()).expect("ports");
        let profile = Profile {
            version: FILE_VERSION,
            kubby: env!("CARGO_PKG_VERSION").into(),
            name: name.clone(),
            connect: uri().into(),
            kubeconfig: env.kubeconfig(),
            endpoint: None,
            spec: ClusterSpec {
                kubernetes_version: "v1.37.2".into(),
                addons: Vec::new(),
                cni: Default::default(),
                extra_config: Vec::new(),
                egress: Default::default(),
            },
            assets: Assets {
                node_image: KEY.into(),
                components: KEY.into(),
                ..Assets::default()
            },
            nodes: vec![NodeProfile {
                name: "kubby".into(),
                role: Role::ControlPlane,
                number: 1,
                uuid: uuid::Uuid::new_v4().to_string(),
                disk: format!("{}.disk-1.qcow2", name.resource_name()),
                machine: MachineSpec {
                    acceleration: Acceleration::Tcg,
                    cpus: 1,
                    memory_mib: 2048,
                    disk_mib: 6144,
                    kernel_args: Vec::new(),
                },
                ports: Ports {
                    api: Some(ports[0]),
                    ssh: ports[1],
                    link: None,
                },
            }],
            forwards: Vec::new(),
            opened: Vec::new(),
        };
        let place = Place {
            env,
            libvirt: Libvirt::open(uri()).expect("libvirt"),
            store,
            name,
            profile,
            dir,
        };
        place.fill();
        place
    }

    fn fill(&self) {
        self.profile.save(&self.dir).expect("the profile");
        let pool = self.store.pool_name();
        self.libvirt
            .ensure_pool(&pool, &self.target())
            .expect("the pool");
        let base = self.env.root().join("base.qcow2");
        let mut command = Command::new("qemu-img");
        command.args(["create", "-q", "-f", "qcow2"]).arg(&base);
        Run::of({
            command.arg("64M");
            command
        })
        .ok();
        let disk = format!("base-{KEY}.qcow2");
        self.libvirt
            .upload(&pool, &disk, &base, &Silent.step(""))
            .expect("the image");
        for volume in [
            format!("base-{KEY}.vmlinuz"),
            format!("base-{KEY}.initrd"),
            format!("components-{KEY}.erofs"),
            format!("{}.seed.tar", self.domain()),
        ] {
            self.volume(&volume);
        }
        let own = self.profile.first().disk.as_str();
        self.libvirt
            .create_overlay(&pool, own, &disk, 64 << 20)
            .expect("the disk");
        let pki = pki::ensure(&self.dir.pki(), &spec(OffsetDateTime::now_utc())).expect("keys");
        for key in [self.dir.ssh_key(), self.dir.host_key()] {
            kubby::testing::fsutil::create_private_dir(key.parent().expect("a folder"))
                .expect("it");
            kubby::testing::fsutil::write_atomic(&key, b"a key\n", 0o600).expect("a key");
            let public = key.with_extension("pub");
            kubby::testing::fsutil::write_atomic(&public, b"a key\n", 0o644).expect("a key");
        }
        let machine = self.machine(&self.name, &self.env.home(), &self.disk());
        let spec = DomainSpec {
            uuid: self.profile.first().uuid().expect("a UUID"),
            ..machine
        };
        self.libvirt.define(&spec).expect("the domain");
        fs::create_dir_all(self.env.kubeconfig().parent().expect("a folder")).expect("it");
        let entry = self.entry(&self.name, &self.env.home(), &pki);
        kubeconfig::install(&self.env.kubeconfig(), &entry, true).expect("the context");
    }

    /// The cluster's context, or one like it for another profile or home.
    pub fn entry(&self, name: &ProfileName, home: &Path, pki: &Pki) -> Entry {
        Entry {
            name: name.resource_name(),
            server: self.profile.server(),
            ca_pem: pki.cert(CertName::Ca).into(),
            client_cert_pem: pki.cert(CertName::Admin).into(),
            client_key_pem: pki.key(CertName::Admin).into(),
            owner: kubeconfig::Owner {
                profile: name.to_string(),
                home: home.into(),
            },
        }
    }

    pub fn pki(&self) -> Pki {
        pki::load(&self.dir.pki()).expect("keys")
    }

    /// The path of the cluster's own disk.
    pub fn disk(&self) -> PathBuf {
        let own = self.profile.first().disk.as_str();
        self.target().join(own)
    }

    fn machine(&self, name: &ProfileName, home: &Path, disk: &Path) -> DomainSpec {
        let path = |volume: &str| self.target().join(volume).display().to_string();
        let channel = self.target().join(format!("{}.channel", self.domain()));
        self.libvirt.ensure_channel(&channel).expect("the channel");
        DomainSpec {
            name: name.resource_name(),
            uuid: uuid::Uuid::new_v4(),
            title: "a test".into(),
            description: "never started".into(),
            owner: Owner {
                profile: name.to_string(),
                home: home.into(),
                version: env!("CARGO_PKG_VERSION").into(),
            },
            acceleration: Acceleration::Tcg,
            memory: Mebibytes(256),
            cpus: 1,
            kernel: path(&format!("base-{KEY}.vmlinuz")),
            initrd: path(&format!("base-{KEY}.initrd")),
            kernel_args: Vec::new(),
            root_disk: disk.display().to_string(),
            components: path(&format!("components-{KEY}.erofs")),
            seed: path(&format!("{}.seed.tar", self.domain())),
            console_log: path(&format!("{}.console.log", self.domain())),
            channel: Some(channel.display().to_string()),
            forwards: Vec::new(),
        }
    }

    /// Another profile's name, which no other run uses.
    pub fn other_name(&self, suffix: &str) -> ProfileName {
        format!("{}-{suffix}", self.name).parse().expect("a name")
    }

    /// Defines a domain of another profile or home with this disk; gives its name.
    pub fn define_domain(&self, name: &ProfileName, home: &Path, disk: &Path) -> String {
        let spec = self.machine(name, home, disk);
        self.libvirt.define(&spec).expect("a domain");
        spec.name
    }

    pub fn has_domain(&self, domain: &str) -> bool {
        self.libvirt.find(domain).expect("libvirt").is_some()
    }

    /// Makes a small volume.
    pub fn volume(&self, name: &str) {
        let pool = self.store.pool_name();
        self.libvirt
            .upload_bytes(&pool, name, b"small")
            .expect("a volume");
    }

    /// Removes the home's mark from the pool.
    pub fn remove_mark(&self) {
        fs::remove_file(self.target().join(POOL_MARK)).expect("the home's mark");
        self.env.virsh(&["pool-refresh", &self.pool()]).ok();
    }

    /// The names of all volumes.
    pub fn volumes(&self) -> Vec<String> {
        let all = self.libvirt.list_volumes(&self.store.pool_name());
        all.expect("volumes").into_iter().map(|v| v.name).collect()
    }

    pub fn domain(&self) -> String {
        self.name.resource_name()
    }

    pub fn pool(&self) -> String {
        self.store.pool_name()
    }

    /// The pool's folder.
    pub fn target(&self) -> PathBuf {
        self.store.pool_target(uri())
    }

    /// Removes everything, as a user would.
    pub fn remove(&self) {
        self.env.kubby_on(self.name.as_str(), &["delete"]).ok();
        assert!(!self.env.home().exists(), "the home is gone");
        let pool = self.libvirt.has_pool(&self.pool()).expect("libvirt");
        assert!(!pool, "the pool is gone");
    }
}

/// Returns the specification of the cluster's certificates, made at a time.
pub fn spec(now: OffsetDateTime) -> PkiSpec {
    PkiSpec::of_first_node(now)
}
