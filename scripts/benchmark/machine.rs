//! A virtual machine like that of a cluster, with the same node image, without Kubernetes.

use std::path::Path;
use std::time::{Duration, Instant};

use kubby::testing::error::{Kind, Result, ResultExt};
use kubby::testing::hypervisor::{DomainSpec, Hypervisor, Owner, PortForward, ports};
use kubby::testing::progress::{Progress, Silent};
use kubby::testing::remote::{Ssh, Target, generate_key};
use kubby::testing::units::Mebibytes;
use kubby::testing::{assets::node_image, fsutil, interrupt};
use uuid::Uuid;

use crate::site::Site;

/// Power-on to SSH with hardware virtualisation.
const BOOT: Duration = Duration::from_secs(60);
const DISK: Mebibytes = Mebibytes(20 * 1024);

/// What goes onto the read-only volume of a machine.
pub enum Payload<'a> {
    /// An image of this name and file.
    File(&'a str, &'a Path),
    /// No console.
    None,
}

/// A machine that runs; it goes with all that belongs to it when this is dropped.
pub struct Machine<'a> {
    site: &'a Site,
    pub domain: String,
    pub ssh: Ssh,
    /// When it was switched on, and how long it took from there to the first SSH session.
    pub on: Instant,
    pub boot: Duration,
    /// The port of the host that leads to the API.
    pub api_port: u16,
    _leftovers: Leftovers<'a>,
}

/// What a machine has in libvirt, however far its making came.
struct Leftovers<'a> {
    site: &'a Site,
    domain: String,
    pool: String,
}

impl Drop for Leftovers<'_> {
    fn drop(&mut self) {
        let hypervisor = &self.site.hypervisor;
        let _ = hypervisor.destroy(&self.domain);
        let _ = hypervisor.undefine(&self.domain);
        // Files that QEMU made are volumes only after a look.
        let _ = hypervisor.refresh_pool(&self.pool);
        for volume in hypervisor.list_volumes(&self.pool).unwrap_or_default() {
            if volume.name.starts_with(&self.domain) {
                let _ = hypervisor.delete_volume(&self.pool, &volume.name);
            }
        }
    }
}

impl<'a> Machine<'a> {
    /// Boots a machine and waits for SSH.
    ///
    /// # Errors
    /// When libvirt refuses or the node does not answer in time; nothing is left then.
    pub fn boot(site: &'a Site, what: &str, payload: &Payload<'_>) -> Result<Self> {
        let profile = site.profile(what);
        let (hypervisor, pool) = (&site.hypervisor, site.machines.pool_name());
        let target_dir = site.machines.pool_target(hypervisor.uri());
        hypervisor.ensure_pool(&pool, &target_dir)?;
        let leftovers = Leftovers {
            site,
            domain: Site::domain(&profile),
            pool: pool.clone(),
        };
        let domain = &leftovers.domain;
        let upload = |volume: &str, file: &Path| -> Result<String> {
            hypervisor.upload(&pool, volume, file, &Silent.step(volume))?;
            let path = hypervisor.volume_path(&pool, volume)?;
            Ok(path.to_string_lossy().into_owned())
        };
        let path = |volume: &str| -> Result<String> {
            let path = hypervisor.volume_path(&pool, volume)?;
            Ok(path.to_string_lossy().into_owned())
        };
        upload("base.qcow2", &site.image.disk)?;
        let (disk, seed) = (format!("{domain}.disk.qcow2"), format!("{domain}.seed.tar"));
        hypervisor.create_overlay(&pool, &disk, "base.qcow2", DISK.bytes())?;
        let components = match payload {
            Payload::File(volume, file) => upload(volume, file)?,
            Payload::None => {
                hypervisor.upload_bytes(&pool, "empty", &[0; 1 << 20])?;
                path("empty")?
            }
        };
        let free = ports::find_free(2, &Default::default())?;
        let &[ssh_port, api_port] = free.as_slice() else {
            return Err(kubby::testing::error::Error::new(
                Kind::Preflight,
                "no port is free",
            ));
        };
        let (target, archive) = identity(&site.machines.home().join(what), ssh_port)?;
        hypervisor.upload_bytes(&pool, &seed, &archive)?;
        hypervisor.define(&DomainSpec {
            name: domain.clone(),
            uuid: Uuid::new_v4(),
            title: format!("kubby's benchmark: {what}"),
            description: "Goes when kubby's benchmark ends; virsh destroy and undefine remove it"
                .into(),
            owner: Owner {
                profile,
                home: site.machines.home().to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            acceleration: site.acceleration,
            memory: Mebibytes(site.memory_mib),
            cpus: site.cpus,
            kernel: upload("kernel", &site.image.kernel)?,
            initrd: upload("initrd", &site.image.initrd)?,
            kernel_args: node_image::KERNEL_ARGUMENTS
                .split_ascii_whitespace()
                .map(str::to_owned)
                .collect(),
            root_disk: path(&disk)?,
            components,
            seed: path(&seed)?,
            console_log: target_dir
                .join(format!("{domain}.console.log"))
                .to_string_lossy()
                .into_owned(),
            channel: None,
            forwards: vec![
                PortForward::tcp(ssh_port, 22),
                PortForward::tcp(api_port, 6443),
            ],
        })?;
        // Otherwise files that were just written would be flushed during the measurement.
        rustix::fs::sync();
        let on = Instant::now();
        hypervisor.start(domain)?;
        let ssh =
            Ssh::connect_when_ready(&target, on + site.limit(BOOT), &mut |_| interrupt::check())?;
        Ok(Machine {
            site,
            domain: domain.clone(),
            ssh,
            boot: on.elapsed(),
            on,
            api_port,
            _leftovers: leftovers,
        })
    }

    /// The end of the console, for errors.
    pub fn console(&self) -> String {
        let pool = self.site.machines.pool_name();
        let log = format!("{}.console.log", self.domain);
        let text = self.site.hypervisor.read_log(&pool, &log);
        kubby::testing::hypervisor::console::tail(&text.unwrap_or_default(), 20)
    }
}

/// Removes the volumes that machines share.
pub fn clean_up(site: &Site) {
    let (hypervisor, pool) = (&site.hypervisor, site.machines.pool_name());
    for volume in hypervisor.list_volumes(&pool).unwrap_or_default() {
        let _ = hypervisor.delete_volume(&pool, &volume.name);
    }
    let _ = hypervisor.remove_pool(&pool);
}

/// Keys of both sides, and the seed that brings them to the node.
fn identity(dir: &Path, port: u16) -> Result<(Target, Vec<u8>)> {
    fsutil::create_private_dir(dir)?;
    let (operator, host) = (generate_key("benchmark")?, generate_key("node")?);
    let private_key = dir.join("id_ed25519");
    fsutil::write_atomic(&private_key, operator.private_openssh.as_bytes(), 0o600)?;
    fsutil::write_atomic(
        &private_key.with_extension("pub"),
        operator.public_openssh.as_bytes(),
        0o644,
    )?;
    let mut seed = tar::Builder::new(Vec::new());
    for (path, mode, text) in [
        ("etc/ssh/ssh_host_ed25519_key", 0o600, &host.private_openssh),
        (
            "etc/ssh/ssh_host_ed25519_key.pub",
            0o644,
            &host.public_openssh,
        ),
        ("root/.ssh/authorized_keys", 0o600, &operator.public_openssh),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_mode(mode);
        header.set_size(text.len() as u64);
        seed.append_data(&mut header, path, text.as_bytes())
            .context(Kind::Internal, || "cannot make the seed".into())?;
    }
    let seed = seed
        .into_inner()
        .context(Kind::Internal, || "cannot make the seed".into())?;
    let target = Target {
        host: "127.0.0.1".into(),
        port,
        user: "root".into(),
        private_key,
        host_key: host.public_openssh.trim().to_owned(),
    };
    Ok((target, seed))
}
