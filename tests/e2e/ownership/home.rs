//! A home with clusters that were never started: all that kubby looks at is real, and small.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kubby::testing::fsutil;
use kubby::testing::hypervisor::{Acceleration, POOL_MARK};
use kubby::testing::kubeconfig::{self, Entry};
use kubby::testing::pki::{self, CertName, PkiSpec};
use kubby::testing::profile::{
    Assets, ClusterSpec, FILE_VERSION, MachineSpec, NodeProfile, Ports, Profile, ProfileName,
};
use kubby::testing::role::Role;
use kubby::testing::store::{ProfileDir, Store};
use serde_json::json;
use time::OffsetDateTime;

use crate::ownership::actor::Actor;
use crate::program::Run;

/// The key of the images, which are never booted.
pub const KEY: &str = "00112233445566778899aabbccddeeff";

/// The XML namespace of kubby's marks.
const NAMESPACE: &str = "https://kubby.dev/libvirt/1";

/// The ID of the saved state of a home's template.
pub const STATE: &str = "0123456789ab";

/// Files that all fixtures are copied from.
pub struct Patterns {
    base: PathBuf,
    overlay: PathBuf,
    pki: PathBuf,
}

impl Patterns {
    pub fn make(folder: &Path) -> Self {
        let patterns = Patterns {
            base: folder.join("base.qcow2"),
            overlay: folder.join("overlay.qcow2"),
            pki: folder.join("pki"),
        };
        fs::create_dir_all(folder).expect("a folder");
        let create = |arguments: &[&str], file: &Path, size: Option<&str>| {
            let mut command = Command::new("qemu-img");
            command
                .args(["create", "-q", "-f", "qcow2"])
                .args(arguments);
            command.arg(file).args(size).current_dir(folder);
            Run::of(command).ok();
        };
        create(&[], &patterns.base, Some("1M"));
        let backing = format!("base-{KEY}.qcow2");
        fs::copy(&patterns.base, folder.join(&backing)).expect("a copy");
        create(&["-b", &backing, "-F", "qcow2"], &patterns.overlay, None);
        let spec = PkiSpec::of_first_node(OffsetDateTime::now_utc());
        pki::ensure(&patterns.pki, &spec).expect("keys");
        patterns
    }
}

/// Whom a domain's mark names.
pub struct Mark<'a> {
    pub home: &'a Path,
    pub profile: &'a str,
}

/// One home of a user.
pub struct Home<'a> {
    actor: &'a Actor<'a>,
    patterns: &'a Patterns,
    pub path: PathBuf,
    pub store: Store,
    /// The name of its pool.
    pub pool: String,
    /// The folder of its pool.
    pub target: PathBuf,
}

impl<'a> Home<'a> {
    /// Makes the folder of a home, with the record of its pool's name.
    pub fn new(actor: &'a Actor<'a>, patterns: &'a Patterns, path: PathBuf) -> Self {
        fsutil::create_private_dir(&path).expect("a home");
        actor.own(&path);
        let store = Store::at(&path, &actor.root.join("cache"));
        let pool = store.pool_name();
        fs::write(path.join("pool-name"), format!("{pool}\n")).expect("a record");
        Home::at(actor, patterns, path, pool)
    }

    /// Makes a home as an earlier version of kubby did, which recorded no pool's name.
    pub fn earlier(
        actor: &'a Actor<'a>,
        patterns: &'a Patterns,
        path: PathBuf,
        pool: String,
    ) -> Self {
        fsutil::create_private_dir(&path).expect("a home");
        Home::at(actor, patterns, path, pool)
    }

    fn at(actor: &'a Actor<'a>, patterns: &'a Patterns, path: PathBuf, pool: String) -> Self {
        fsutil::create_private_dir(&path.join("locks")).expect("a folder");
        let target = match actor.is_system() {
            true => Path::new("/var/lib/libvirt/images").join(&pool),
            false => path.join("pool"),
        };
        let store = Store::at(&path, &actor.root.join("cache"));
        Home {
            actor,
            patterns,
            path,
            store,
            pool,
            target,
        }
    }

    pub fn dir(&self, name: &str) -> ProfileDir {
        self.store.profile_dir(&name.parse().expect("a name"))
    }

    /// Makes the files of a cluster's profile.
    pub fn profile(&self, name: &str, kubeconfig: &Path) -> Profile {
        let name: ProfileName = name.parse().expect("a name");
        let dir = self.store.profile_dir(&name);
        let profile = Profile {
            version: FILE_VERSION,
            kubby: env!("CARGO_PKG_VERSION").into(),
            connect: self.actor.uri.into(),
            kubeconfig: kubeconfig.into(),
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
                    api: Some(39_001),
                    ssh: 39_002,
                    link: None,
                },
            }],
            forwards: Vec::new(),
            opened: Vec::new(),
            name,
        };
        profile.save(&dir).expect("the profile");
        fsutil::copy_private(&self.patterns.pki, &dir.pki()).expect("keys");
        for key in [dir.ssh_key(), dir.host_key()] {
            fsutil::create_private_dir(key.parent().expect("a folder")).expect("it");
            fsutil::write_atomic(&key, b"a key\n", 0o600).expect("a key");
            fsutil::write_atomic(&key.with_extension("pub"), b"a key\n", 0o644).expect("a key");
        }
        profile
    }

    /// Makes the shared volumes in the pool's folder, and its mark.
    pub fn base(&self) {
        let file = self.target.join(format!("base-{KEY}.qcow2"));
        fs::create_dir_all(&self.target).expect("a folder");
        fs::copy(&self.patterns.base, file).expect("a copy");
        for file in [
            "base-KEY.vmlinuz",
            "base-KEY.initrd",
            "components-KEY.erofs",
        ] {
            self.volume(&file.replace("KEY", KEY));
        }
    }

    /// Writes the mark of the pool.
    pub fn mark(&self, home: &Path, user: u32) {
        let text = format!("{}\n{user}\n", home.display());
        fs::write(self.target.join(POOL_MARK), text).expect("a mark");
    }

    /// Makes a small file in the pool's folder.
    pub fn volume(&self, name: &str) {
        fs::write(self.target.join(name), "small\n").expect("a volume");
    }

    /// Makes the disk, the seed and the console's log of a cluster.
    pub fn volumes(&self, profile: &str) {
        let domain = domain_name(profile);
        let disk = self.target.join(format!("{domain}.disk-1.qcow2"));
        fs::copy(&self.patterns.overlay, disk).expect("a copy");
        self.volume(&format!("{domain}.seed.tar"));
        self.volume(&format!("{domain}.console.log"));
    }

    /// Makes a saved state of a cluster that was off, with the disk `disk`.
    pub fn saved(&self, folder: &Path, profile: &Profile, disk: &str) {
        use std::os::unix::fs::MetadataExt as _;
        let path = self.target.join(disk);
        if !path.exists() {
            fs::copy(&self.patterns.overlay, &path).expect("a copy");
        }
        self.actor.own(&path);
        let meta = path.metadata().expect("the disk");
        let time = |seconds: i64, rest: i64| seconds * 1_000_000_000 + rest;
        let manifest = json!({
            "format": 1,
            "id": STATE,
            "created": 1_795_422_969,
            "host": {"qemu": "1.0.0", "libvirt": "1.0.0", "cpu": ""},
            "memory": null,
            "disk": disk,
            "disk_stamp": {
                "size": meta.len(),
                "inode": meta.ino(),
                "modified": time(meta.mtime(), meta.mtime_nsec()),
                "changed": time(meta.ctime(), meta.ctime_nsec()),
            },
            "profile": profile,
        });
        fsutil::copy_private(&self.patterns.pki, &folder.join("pki")).expect("keys");
        let own = self.dir(profile.name.as_str());
        let ssh = own.ssh_key();
        let ssh = ssh.parent().expect("a folder");
        fsutil::copy_private(ssh, &folder.join("ssh")).expect("keys");
        fs::write(folder.join("manifest.json"), manifest.to_string()).expect("a manifest");
    }

    /// Returns virsh's commands that define the pool and start it.
    pub fn define_pool(&self, folder: &Path) -> Vec<String> {
        let file = self.actor.root.join(format!("{}.pool.xml", self.pool));
        let (pool, folder) = (&self.pool, folder.display());
        let xml = format!(
            "<pool type='dir'><name>{pool}</name><target><path>{folder}</path></target></pool>"
        );
        fs::write(&file, xml).expect("XML");
        vec![
            format!("pool-define {}", file.display()),
            format!("pool-build {pool}"),
            format!("pool-start {pool}"),
            format!("pool-autostart {pool}"),
        ]
    }

    /// Returns virsh's command that defines a cluster's domain.
    pub fn define(&self, profile: &str, uuid: &str, mark: Option<Mark<'_>>, disk: &Path) -> String {
        let domain = domain_name(profile);
        let file = self.actor.root.join(format!("{domain}.xml"));
        let mark = mark.map_or_else(String::new, |mark| {
            format!(
                "<metadata><kubby:owner xmlns:kubby='{NAMESPACE}'><kubby:profile>{}</kubby:profile>\
                 <kubby:home>{}</kubby:home><kubby:version>0.1.0</kubby:version></kubby:owner></metadata>",
                mark.profile,
                mark.home.display()
            )
        });
        let xml = format!(
            "<domain type='qemu'><name>{domain}</name><uuid>{uuid}</uuid>\
             <description>{}</description>{mark}<memory unit='MiB'>16</memory>\
             <os><type arch='x86_64' machine='q35'>hvm</type></os>\
             <features><acpi/><apic/></features><devices>\
             <disk type='file' device='disk'><driver name='qemu' type='qcow2'/>\
             <source file='{}'/><target dev='vda' bus='virtio'/></disk></devices></domain>",
            self.actor.root.display(),
            disk.display()
        );
        fs::write(&file, xml).expect("XML");
        format!("define {}", file.display())
    }

    /// Returns the context of a cluster, with this home's mark.
    pub fn entry(&self, profile: &str) -> Entry {
        let pki = pki::load(&self.patterns.pki).expect("keys");
        Entry {
            name: domain_name(profile),
            server: "https://127.0.0.1:39001".into(),
            ca_pem: pki.cert(CertName::Ca).into(),
            client_cert_pem: pki.cert(CertName::Admin).into(),
            client_key_pem: pki.key(CertName::Admin).into(),
            owner: kubeconfig::Owner {
                profile: profile.into(),
                home: self.path.clone(),
            },
        }
    }
}

/// Returns the name of a cluster's domain and context.
pub fn domain_name(profile: &str) -> String {
    let name: ProfileName = profile.parse().expect("a name");
    name.resource_name()
}
