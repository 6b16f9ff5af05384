//! Saving the machines of a cluster as they are at this moment, into a saved state.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::cluster::machine::{Machine, domain, keys, names};
use crate::cluster::saved::garbage::{UNFINISHED, Unfinished};
use crate::cluster::saved::identity;
use crate::cluster::saved::state::{self, FORMAT, HostMark, Memory, Saved, SavedDir, Stamp};
use crate::error::{Error, Kind, Result, ResultExt};
use crate::fault;
use crate::fsutil;
use crate::hypervisor::{Hypervisor, State, saved_stream};
use crate::profile::{NodeProfile, Profile};
use crate::progress::Step;
use crate::role::Role;
use crate::units::{Mebibytes, human_bytes};

/// The space that stays free on the disk beside a saved state.
const SPARE: Mebibytes = Mebibytes(64);

/// The reason for saving, which decides about the disk and the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SaveReason {
    /// For later, perhaps for many loads: the disk is frozen, the cluster continues in a new layer, and
    /// the files get digests.
    Keep,
    /// The same, for one load at once.
    Fork,
    /// For the same cluster: the disk stays as it is, and the machine stays paused until it is ended.
    Suspend,
}

/// Saves machines of a cluster.
pub(crate) struct Save<'a> {
    pub(crate) env: &'a Env<'a>,
    /// The machines with the indices of their nodes: those of all nodes, or a worker's that belongs to no
    /// cluster yet.
    pub(crate) machines: Vec<(usize, &'a Machine<'a>)>,
    pub(crate) step: &'a Step,
    pub(crate) reason: SaveReason,
}

/// The saved states that were written.
#[derive(Debug)]
pub(crate) struct Written {
    /// The saved states of the nodes, in their order.
    pub(crate) parts: Vec<Saved>,
    /// The time between the moments at which the first and the last machine stood still.
    pub(crate) skew: Duration,
}

impl Written {
    /// Returns the bytes that the memory takes on the disk; nothing where no machine ran.
    pub(crate) fn memory(&self) -> Option<u64> {
        state::memory_of(&self.parts)
    }

    /// Returns the sizes for the user.
    pub(crate) fn summary(&self) -> String {
        let Some(bytes) = self.memory() else {
            return "only the disk, because the machine is off".into();
        };
        match self.parts.len() {
            1 => human_bytes(bytes),
            count => format!(
                "{}, {count} machines paused within {} ms",
                human_bytes(bytes),
                self.skew.as_millis()
            ),
        }
    }
}

/// Resumes machines when it is dropped.
struct Paused<'a> {
    libvirt: &'a dyn Hypervisor,
    domains: Vec<&'a str>,
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        if !fault::is_killed() {
            for domain in &self.domains {
                let _ = self.libvirt.resume(domain);
            }
        }
    }
}

/// A machine that is saved.
struct Part<'a> {
    node: usize,
    machine: &'a Machine<'a>,
    state: State,
    id: String,
    /// Its disk as it is saved.
    disk: String,
}

impl Part<'_> {
    /// The files of its memory and its devices.
    fn files(&self) -> [PathBuf; 2] {
        state::file_names(&self.id).map(|name| self.machine.host.file(&name))
    }
}

impl Save<'_> {
    /// Saves machines that run or are off into a folder that does not exist yet, with the keys that their
    /// nodes have at this moment.
    ///
    /// # Errors
    /// [`Kind::Preflight`] when there is no room, [`Kind::Hypervisor`] when libvirt or QEMU refuses;
    /// the cluster is as before then, and nothing half-made is left.
    pub(crate) fn write(&self, cluster: &mut Cluster, into: &SavedDir) -> Result<Written> {
        let parts = self.parts(cluster)?;
        let host = parts[0].machine.host;
        // No other process knows the files until the manifest is there: a sweep has to wait.
        let _shared = self.env.lock_shared()?;
        if !host.has_own_pool()? {
            return Err(Error::state("the cluster has no storage pool"));
        }
        let partial = SavedDir::at(into.root.with_extension(UNFINISHED));
        fsutil::remove_all(&partial.root)?;
        let mut unfinished = Unfinished(vec![partial.root.clone()]);
        for (index, part) in parts.iter().enumerate() {
            let node = &cluster.profile.nodes[part.node];
            stage(
                cluster,
                node,
                parts.len() > 1,
                &partial.part(index, &node.name),
            )?;
        }
        let nodes: Vec<usize> = parts.iter().map(|part| part.node).collect();
        let profile = cluster.profile.with_nodes(&nodes);
        let active: Vec<&Part<'_>> = parts.iter().filter(|p| p.state.is_active()).collect();
        unfinished
            .0
            .extend(active.iter().flat_map(|part| part.files()));
        let (memories, skew) = self.memories(cluster, &active)?;
        for part in parts.iter().filter(|part| !part.state.is_active()) {
            if self.reason != SaveReason::Suspend {
                self.freeze_off(cluster, part)?;
            }
        }
        let saved = manifests(&parts, &profile, memories)?;
        partial.save_all(&saved)?;
        fsutil::rename(&partial.root, &into.root).context(Kind::Internal, || {
            format!("cannot move the saved state to {}", into.root.display())
        })?;
        unfinished.0.clear();
        Ok(Written { parts: saved, skew })
    }

    /// Looks at the machines, and records the disks that libvirt has for them.
    fn parts(&self, cluster: &mut Cluster) -> Result<Vec<Part<'_>>> {
        let parts = self.machines.iter().map(|(node, machine)| {
            let state = machine.state()?;
            if let Some(disk) = machine.disk()? {
                cluster.profile.nodes[*node].disk = disk;
            }
            Ok(Part {
                node: *node,
                machine,
                state,
                id: uuid::Uuid::new_v4().simple().to_string()[..12].to_owned(),
                disk: cluster.profile.nodes[*node].disk.clone(),
            })
        });
        let parts: Vec<_> = parts.collect::<Result<_>>()?;
        match parts.is_empty() {
            true => Err(Error::internal("there is no machine to save")),
            false => Ok(parts),
        }
    }

    /// Saves memory, devices and disks of machines that run or are paused. All of them stand still
    /// meanwhile.
    fn memories(
        &self,
        cluster: &mut Cluster,
        parts: &[&Part<'_>],
    ) -> Result<(Vec<Memory>, Duration)> {
        let Some(first) = parts.first() else {
            return Ok((Vec::new(), Duration::ZERO));
        };
        let (host, libvirt) = (first.machine.host, first.machine.host.libvirt());
        // The memory takes at most its whole size; pages of zeros take nothing.
        let sizes = parts
            .iter()
            .map(|part| &cluster.profile.nodes[part.node].machine);
        let size: u64 = sizes
            .map(|m| Mebibytes(m.memory_mib).bytes() + SPARE.bytes())
            .sum();
        host.require_room(size, "to save the machine's memory")?;
        for file in parts.iter().flat_map(|part| part.files()) {
            libvirt.create_state_file(&file)?;
        }
        self.step.detail("memory");
        let mut paused = Paused {
            libvirt,
            domains: Vec::new(),
        };
        let began = Instant::now();
        for part in parts {
            let domain = &part.machine.names.domain;
            if part.state != State::Paused {
                paused.domains.push(domain);
            }
            libvirt.pause(domain)?;
        }
        let skew = began.elapsed();
        for part in parts.iter().filter(|_| self.reason != SaveReason::Suspend) {
            self.freeze(cluster, part)?;
        }
        for part in parts {
            let [pages, _] = part.files();
            libvirt.save_memory(&part.machine.names.domain, &pages)?;
        }
        if self.reason == SaveReason::Suspend {
            paused.domains.clear();
        }
        let continues = !paused.domains.is_empty();
        drop(paused);
        for part in parts
            .iter()
            .filter(|p| continues && p.state != State::Paused)
        {
            identity::correct_clock(self.env, part.machine, cluster, part.node);
        }
        self.step.detail("checksums");
        let described = parts.iter().map(|part| {
            let [pages, devices] = part.files();
            describe(&pages, &devices, self.reason != SaveReason::Fork)
        });
        Ok((described.collect::<Result<_>>()?, skew))
    }

    /// Lets a machine, which is paused, continue in a new layer over its disk.
    fn freeze(&self, cluster: &mut Cluster, part: &Part<'_>) -> Result<()> {
        let overlay = names::new_disk(cluster.name(), &cluster.profile.nodes[part.node].name);
        let machine = part.machine;
        let path = machine.host.file(&overlay);
        machine
            .host
            .libvirt()
            .switch_disk(&machine.names.domain, &path)?;
        cluster.profile.nodes[part.node].disk = overlay;
        cluster.save()
    }

    /// Gives a machine that is off a new layer over its disk. The disk in the domain's definition
    /// counts, so that is changed before the profile.
    fn freeze_off(&self, cluster: &mut Cluster, part: &Part<'_>) -> Result<()> {
        let overlay = names::new_disk(cluster.name(), &cluster.profile.nodes[part.node].name);
        let node = &mut cluster.profile.nodes[part.node];
        let size = Mebibytes(node.machine.disk_mib);
        part.machine
            .host
            .create_overlay(&overlay, &node.disk, size)?;
        node.disk = overlay;
        let profile = &cluster.profile;
        let node = &profile.nodes[part.node];
        domain::define(part.machine, profile, node, cluster.acceleration())?;
        cluster.save()
    }
}

/// Returns the manifests of machines, with the memory of those that ran.
fn manifests(parts: &[Part<'_>], profile: &Profile, memories: Vec<Memory>) -> Result<Vec<Saved>> {
    let host = parts[0].machine.host;
    let mark = HostMark::of(&host.info()?);
    let created = OffsetDateTime::now_utc().unix_timestamp();
    let mut memories = memories.into_iter();
    let saved = parts.iter().enumerate().map(|(index, part)| {
        Ok(Saved {
            format: FORMAT,
            id: part.id.clone(),
            created,
            host: mark.clone(),
            memory: match part.state.is_active() {
                true => memories.next(),
                false => None,
            },
            disk_stamp: Stamp::require(&host.file(&part.disk))?,
            disk: part.disk.clone(),
            profile: match index {
                0 => profile.clone(),
                _ => profile.with_nodes(&[index]),
            },
        })
    });
    saved.collect()
}

/// Copies the files that a node has beside its machine: keys, certificates, and with the first node the
/// user's own add-ons. A worker that is saved alone belongs to no cluster yet.
fn stage(cluster: &Cluster, node: &NodeProfile, whole: bool, to: &SavedDir) -> Result<()> {
    let (from, to) = (cluster.node_dir(node), to.files());
    fsutil::create_private_dir(to.root())?;
    if whole || node.role == Role::ControlPlane {
        fsutil::copy_private(&from.pki(), &to.pki())?;
        fsutil::copy_private(&from.addons(), &to.addons())?;
    }
    keys::copy(&identity::keys_of_node(cluster, node), &to)
}

/// Makes the devices' file from QEMU's stream, and describes both files.
fn describe(pages: &Path, devices: &Path, digests: bool) -> Result<Memory> {
    let fail = |what: &str, path: &Path| format!("cannot {what} {}", path.display());
    let mut stream = fs::File::open(pages).context(Kind::Internal, || fail("read", pages))?;
    let layout =
        saved_stream::layout(&mut stream).context(Kind::Hypervisor, || fail("use", pages))?;
    let mut to = fs::OpenOptions::new()
        .write(true)
        .open(devices)
        .context(Kind::Internal, || fail("write", devices))?;
    saved_stream::write_devices(&mut stream, &layout, &mut to)
        .context(Kind::Internal, || fail("write", devices))?;
    drop(to);
    let digest = |path: &Path| {
        let digest = || state::digest_pages(path).context(Kind::Internal, || fail("read", path));
        digests.then(digest).transpose()
    };
    Ok(Memory {
        offset: layout.pages,
        length: layout.length,
        digest: digest(pages)?,
        stamp: Stamp::require(pages)?,
        devices_digest: digest(devices)?,
        devices_stamp: Stamp::require(devices)?,
        allocated: state::allocated(pages) + state::allocated(devices),
    })
}
