//! What a cluster has in libvirt: names, volumes and the domain.

use std::path::{Path, PathBuf};

use crate::assets::components::ComponentSet;
use crate::assets::node_image::{self, NodeImage};
use crate::cluster::Access;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil;
use crate::hypervisor::{
    self, Acceleration, Change, DomainSpec, Hypervisor, Owner, PortForward, Volume,
};
use crate::network::{API_PORT, SSH_PORT};
use crate::profile::{Profile, ProfileName};
use crate::progress::Progress;
use crate::remote::{self, NodeFile};
use crate::store::{ProfileDir, Store};
use crate::units::Mebibytes;

/// What a new node writes before anybody asks anything of it.
const FIRST_STEPS: Mebibytes = Mebibytes(512);

/// The names of everything that a cluster has in libvirt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The domain.
    pub domain: String,
    /// The storage pool, shared by all clusters of this home.
    pub pool: String,
    /// The pool's folder.
    pub target: PathBuf,
    /// The node's own disk, an overlay.
    pub disk: String,
    /// The volume with the node's SSH identity.
    pub seed: String,
    /// The serial console's file in the pool's folder.
    pub console: String,
    /// The host's channel into the node, a file name's beginning in the pool's folder.
    pub channel: String,
}

impl Names {
    /// The names for a profile.
    pub fn new(store: &Store, profile: &Profile) -> Self {
        Names {
            disk: profile.disk.clone(),
            ..Names::of(store, &profile.name, &profile.connect)
        }
    }

    /// The names for a profile's name on a connection.
    pub fn of(store: &Store, name: &ProfileName, uri: &str) -> Self {
        let domain = name.resource_name();
        Names {
            pool: store.pool_name(),
            target: store.pool_target(uri),
            disk: format!("{domain}.disk.qcow2"),
            seed: format!("{domain}.seed.tar"),
            console: format!("{domain}.console.log"),
            channel: format!("{domain}.channel"),
            domain,
        }
    }
}

/// A name for a disk of a cluster that no other disk has: an earlier disk of the same cluster may
/// still be there, because templates, snapshots or forks build on it.
pub fn disk_name(name: &ProfileName) -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("{}.disk-{}.qcow2", name.resource_name(), &id[..12])
}

/// The shared volumes that a profile's assets are uploaded to, named by what is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseVolumes {
    /// The node image's disk, which overlays build on.
    pub disk: String,
    /// The kernel.
    pub kernel: String,
    /// The initial RAM disk.
    pub initrd: String,
    /// Kubernetes' programs.
    pub components: String,
}

impl BaseVolumes {
    /// The names for a profile's assets.
    pub fn of(profile: &Profile) -> Self {
        let node = &profile.assets.node_image;
        BaseVolumes {
            disk: format!("base-{node}.qcow2"),
            kernel: format!("base-{node}.vmlinuz"),
            initrd: format!("base-{node}.initrd"),
            components: format!("components-{}.erofs", profile.assets.components),
        }
    }

    /// All four.
    pub fn all(&self) -> [&str; 4] {
        [&self.disk, &self.kernel, &self.initrd, &self.components]
    }

    /// Whether all of them are in the pool, so that no asset is needed.
    pub fn are_in(&self, volumes: &Volumes) -> bool {
        self.all().iter().all(|name| volumes.has_whole(name))
    }
}

/// What is in a pool, asked once.
#[derive(Debug)]
pub struct Volumes(Vec<Volume>);

impl Volumes {
    /// Asks libvirt; a pool that is not there has no volumes.
    ///
    /// # Errors
    /// [`Kind::Hypervisor`] when libvirt cannot be asked.
    pub fn of(hypervisor: &dyn Hypervisor, pool: &str) -> Result<Self> {
        hypervisor.list_volumes(pool).map(Volumes)
    }

    /// Whether a volume is there.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|v| v.name == name)
    }

    /// Whether a volume is there and its upload came to its end.
    pub fn has_whole(&self, name: &str) -> bool {
        self.0.iter().any(|v| v.name == name && v.uploaded)
    }
}

/// Uploads the assets that the pool lacks. The caller holds the shared lock.
///
/// # Errors
/// [`Kind::Hypervisor`] when libvirt refuses, such as for a full disk.
pub fn upload_base(
    hypervisor: &dyn Hypervisor,
    pool: &str,
    base: &BaseVolumes,
    image: &NodeImage,
    components: &ComponentSet,
    progress: &dyn Progress,
) -> Result<()> {
    let files: [(&str, &Path); 4] = [
        (&base.disk, &image.disk),
        (&base.kernel, &image.kernel),
        (&base.initrd, &image.initrd),
        (&base.components, &components.volume),
    ];
    let step = progress.step("Hand the images to libvirt");
    check_room(hypervisor, pool, &files)?;
    let mut uploaded = 0;
    for (volume, file) in files {
        step.detail(volume);
        if hypervisor.upload(pool, volume, file, &step)? == Change::Done {
            uploaded += std::fs::metadata(file).map(|m| m.len()).unwrap_or(0);
        }
    }
    if uploaded == 0 {
        step.skipped("");
    } else {
        step.done(crate::units::human_bytes(uploaded));
    }
    Ok(())
}

/// Checks that the pool has room for what is missing, and for the node's first steps.
fn check_room(hypervisor: &dyn Hypervisor, pool: &str, files: &[(&str, &Path); 4]) -> Result<()> {
    let there = Volumes::of(hypervisor, pool)?;
    let missing: u64 = files
        .iter()
        .filter(|(volume, _)| !there.has_whole(volume))
        .map(|(_, file)| std::fs::metadata(file).map(|m| m.len()).unwrap_or(0))
        .sum();
    let needed = missing + FIRST_STEPS.bytes();
    require_room(hypervisor, pool, needed, "for the cluster's volumes")
}

/// Checks that the pool has room for so many bytes; `what` completes `there is not enough room …`.
///
/// # Errors
/// [`Kind::Preflight`] when it has not.
pub fn require_room(
    hypervisor: &dyn Hypervisor,
    pool: &str,
    needed: u64,
    what: &str,
) -> Result<()> {
    let available = hypervisor.pool_available_bytes(pool)?;
    if available >= needed {
        return Ok(());
    }
    Err(Error::new(
        Kind::Preflight,
        format!(
            "there is not enough room {what}: {} needed, {} available",
            crate::units::human_bytes(needed),
            crate::units::human_bytes(available)
        ),
    )
    .with_hint("kubby template prune removes what no start can use")
    .with_hint(format!(
        "make room where the storage pool `{pool}` is: virsh pool-dumpxml {pool}"
    )))
}

/// Makes the node's own volumes where they are missing: the overlay disk and the seed, which
/// brings `files` into the node.
///
/// # Errors
/// [`Kind::Hypervisor`] when libvirt refuses.
pub fn ensure_own_volumes(
    hypervisor: &dyn Hypervisor,
    names: &Names,
    base: &BaseVolumes,
    profile: &Profile,
    dir: &ProfileDir,
    files: &[NodeFile],
) -> Result<()> {
    // A disk that is there may be a layer over another one than the image's.
    if !Volumes::of(hypervisor, &names.pool)?.has(&names.disk) {
        let size = Mebibytes(profile.disk_mib).bytes();
        hypervisor.create_overlay(&names.pool, &names.disk, &base.disk, size)?;
    }
    ensure_seed(hypervisor, names, dir, files)
}

/// Makes the node's SSH identity and the volume that brings it, and `files`, into the node, where
/// they are missing.
///
/// # Errors
/// [`Kind::Hypervisor`] when libvirt refuses.
pub fn ensure_seed(
    hypervisor: &dyn Hypervisor,
    names: &Names,
    dir: &ProfileDir,
    files: &[NodeFile],
) -> Result<()> {
    let new_identity = ensure_ssh_identity(dir)?;
    if new_identity || !Volumes::of(hypervisor, &names.pool)?.has_whole(&names.seed) {
        hypervisor.upload_bytes(&names.pool, &names.seed, &seed(dir, files)?)?;
    }
    Ok(())
}

/// Makes the operator's key and the node's host key; returns whether either was missing.
///
/// # Errors
/// [`Kind::Internal`] when the file system refuses.
pub fn ensure_ssh_identity(dir: &ProfileDir) -> Result<bool> {
    let mut made = false;
    for (path, comment) in [(dir.ssh_key(), "kubby"), (dir.host_key(), "kubby-node")] {
        let public = path.with_extension("pub");
        if path.exists() && public.exists() {
            continue;
        }
        if let Some(parent) = path.parent() {
            fsutil::create_private_dir(parent)?;
        }
        let pair = remote::generate_key(comment)?;
        fsutil::write_atomic(&path, pair.private_openssh.as_bytes(), 0o600)?;
        fsutil::write_atomic(&public, pair.public_openssh.as_bytes(), 0o644)?;
        made = true;
    }
    Ok(made)
}

/// The files in the node that say who it is over SSH and who may log in.
///
/// # Errors
/// [`Kind::State`] when a key is missing.
pub fn ssh_identity(dir: &ProfileDir) -> Result<[NodeFile; 3]> {
    let read = |path: PathBuf| {
        std::fs::read(&path).context(Kind::State, || format!("cannot read {}", path.display()))
    };
    let host_key = "/etc/ssh/ssh_host_ed25519_key";
    Ok([
        NodeFile::new(host_key, 0o600, read(dir.host_key())?),
        NodeFile::new(
            format!("{host_key}.pub"),
            0o644,
            read(dir.host_key().with_extension("pub"))?,
        ),
        NodeFile::new(
            "/root/.ssh/authorized_keys",
            0o600,
            read(dir.ssh_key().with_extension("pub"))?,
        ),
    ])
}

/// The seed: a tar that the node unpacks at boot, before its SSH server starts, so that the
/// very first connection meets a host key that is known and pinned. It brings a new node's
/// configuration too, so that its units start while it still boots.
fn seed(dir: &ProfileDir, files: &[NodeFile]) -> Result<Vec<u8>> {
    let fail = || "cannot make the seed volume".into();
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let now = u64::try_from(now).unwrap_or_default();
    let mut archive = tar::Builder::new(Vec::new());
    for file in ssh_identity(dir)?.iter().chain(files) {
        let mut header = tar::Header::new_gnu();
        header.set_mode(file.mode);
        header.set_mtime(now);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(file.content.len() as u64);
        let path = file.path.trim_start_matches('/');
        archive
            .append_data(&mut header, path, file.content.as_slice())
            .context(Kind::Internal, fail)?;
    }
    archive.into_inner().context(Kind::Internal, fail)
}

/// The ports of the host that lead to the node's SSH server and to kube-apiserver.
pub fn own_ports(profile: &Profile) -> [PortForward; 2] {
    [
        PortForward::tcp(profile.ports.ssh, SSH_PORT),
        PortForward::tcp(profile.ports.api, API_PORT),
    ]
}

/// The domain as the profile wants it.
///
/// # Errors
/// [`Kind::Hypervisor`] when a volume is missing.
pub fn domain(
    hypervisor: &dyn Hypervisor,
    store: &Store,
    names: &Names,
    profile: &Profile,
    acceleration: Acceleration,
) -> Result<DomainSpec> {
    let base = BaseVolumes::of(profile);
    let path = |volume: &str| -> Result<String> {
        let path = hypervisor.volume_path(&names.pool, volume)?;
        Ok(path.to_string_lossy().into_owned())
    };
    Ok(DomainSpec {
        name: names.domain.clone(),
        uuid: profile.uuid()?,
        title: format!("kubby {}", profile.name),
        description: format!(
            "A Kubernetes node by kubby; `kubby delete{}` removes it",
            profile.name.flag()
        ),
        owner: Owner {
            profile: profile.name.to_string(),
            home: store.home().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        acceleration,
        memory: Mebibytes(profile.memory_mib),
        cpus: profile.cpus,
        kernel: path(&base.kernel)?,
        initrd: path(&base.initrd)?,
        kernel_args: kernel_args(&profile.kernel_args),
        root_disk: path(&names.disk)?,
        components: path(&base.components)?,
        seed: path(&names.seed)?,
        console_log: names
            .target
            .join(&names.console)
            .to_string_lossy()
            .into_owned(),
        channel: channel(hypervisor, names)?,
        forwards: own_ports(profile).to_vec(),
    })
}

/// Defines a cluster's machine, which is off, as its profile wants it.
///
/// # Errors
/// [`Kind::Hypervisor`] when a volume is missing or libvirt refuses.
pub fn define(
    hypervisor: &dyn Hypervisor,
    store: &Store,
    access: &Access,
    acceleration: Acceleration,
) -> Result<()> {
    let names = Names::new(store, &access.profile);
    hypervisor.define(&domain(
        hypervisor,
        store,
        &names,
        &access.profile,
        acceleration,
    )?)
}

/// The path of the machine's channel, whose ends are made where they are missing.
fn channel(hypervisor: &dyn Hypervisor, names: &Names) -> Result<Option<String>> {
    if !reaches_files(hypervisor.uri()) {
        return Ok(None);
    }
    let path = names.target.join(&names.channel);
    hypervisor.ensure_channel(&path)?;
    Ok(Some(path.to_string_lossy().into_owned()))
}

/// Whether this process may work on the pool's files itself: they are on this host, and libvirt is
/// the user's own, or the user is root.
pub fn reaches_files(uri: &str) -> bool {
    let system = uri.contains("/system");
    hypervisor::is_local(uri) && (!system || rustix::process::geteuid().is_root())
}

/// The kernel's arguments: those of the image, and what the user adds.
fn kernel_args(extra: &[String]) -> Vec<String> {
    let image = node_image::KERNEL_ARGUMENTS
        .split_ascii_whitespace()
        .map(str::to_owned);
    image.chain(extra.iter().cloned()).collect()
}

/// Removes a cluster's own volumes, and shared ones that nothing of this home needs any more; with
/// the last of them the pool goes too. The caller holds the shared lock. Returns whether anything
/// of the cluster was there.
///
/// # Errors
/// [`Kind::Hypervisor`] when libvirt refuses.
pub fn remove_volumes(
    hypervisor: &dyn Hypervisor,
    store: &Store,
    names: &Names,
    name: &ProfileName,
) -> Result<bool> {
    if !hypervisor.has_pool(&names.pool)? {
        return Ok(false);
    }
    let mut any = false;
    // The console's file is QEMU's, so libvirt knows it as a volume only after a look.
    hypervisor.refresh_pool(&names.pool)?;
    for volume in [&names.seed, &names.console] {
        any |= hypervisor.delete_volume(&names.pool, volume)? == Change::Done;
    }
    if reaches_files(hypervisor.uri()) {
        any |= hypervisor.remove_channel(&names.target.join(&names.channel))?;
    }
    any |= crate::cluster::saved::garbage::sweep(hypervisor, store, &names.pool, Some(name))?;
    // It stays as long as there is anything in it.
    hypervisor.remove_pool(&names.pool)?;
    Ok(any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_holds_the_identity_with_its_modes() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = Store::at(tmp.path(), tmp.path()).profile_dir(&"dev".parse().unwrap());
        assert!(ensure_ssh_identity(&dir).unwrap());
        assert!(!ensure_ssh_identity(&dir).unwrap());
        let unit = NodeFile::new("/etc/systemd/system/kubby.target", 0o644, "[Unit]\n");
        let bytes = seed(&dir, &[unit]).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries: Vec<(String, u32)> = archive
            .entries()
            .unwrap()
            .map(|e| {
                let e = e.unwrap();
                (
                    e.path().unwrap().display().to_string(),
                    e.header().mode().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            entries,
            [
                ("etc/ssh/ssh_host_ed25519_key".to_owned(), 0o600),
                ("etc/ssh/ssh_host_ed25519_key.pub".to_owned(), 0o644),
                ("root/.ssh/authorized_keys".to_owned(), 0o600),
                ("etc/systemd/system/kubby.target".to_owned(), 0o644),
            ]
        );
    }
}
