//! Preparing a cluster to start from a saved state.
//!
//! A suspended cluster, one that goes back to a snapshot, and a fork are the same before their next
//! start: a disk, and a saved state in the folder `suspended` that fits it. `start` resumes from that;
//! where it cannot, the cluster boots from its disk, as after a power cut.

use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::cluster::machine::host::Host;
use crate::cluster::machine::ports::{self, AskedPorts};
use crate::cluster::machine::{Machine, keys, names};
use crate::cluster::saved::state::{Saved, SavedDir, Stamp};
use crate::cluster::template_key;
use crate::error::Result;
use crate::fsutil;
use crate::pki;
use crate::profile::{NodeProfile, Profile};
use crate::role::Role;
use crate::store::ProfileDir;
use crate::units::Mebibytes;

/// Makes a cluster, which is off, ready to resume from a saved state: new layers over its disks, its
/// keys and certificates, and the settings of the profile, which is saved. From a state of another cluster
/// it becomes a copy with an operator of its own. It has the nodes of the saved state then: what belongs to
/// others is removed. The caller has locked the cluster and does not hold the shared lock.
///
/// # Errors
/// [`Kind::Hypervisor`](crate::error::Kind::Hypervisor) when libvirt refuses, [`Kind::Internal`](crate::error::Kind::Internal) when the file system does.
pub(crate) fn restore(
    env: &Env<'_>,
    host: &Host<'_>,
    cluster: &mut Cluster,
    parts: &[Saved],
    from: &SavedDir,
) -> Result<()> {
    let _shared = env.lock_shared()?;
    host.ensure_pool()?;
    let first = &parts[0];
    let gone = take_nodes(env, host, cluster, &first.profile)?;
    template_key::take_over(&mut cluster.profile, &first.profile);
    let is_copy = first.profile.name != *cluster.name();
    let resumed = SavedDir::at(cluster.dir.suspended());
    fsutil::remove_all(&resumed.root)?;
    fsutil::remove_all(&cluster.dir.addons())?;
    let mut saved = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let disk = restore_node(host, cluster, index, part, from)?;
        let disk_stamp = Stamp::require(&host.file(&disk))?;
        cluster.profile.nodes[index].disk.clone_from(&disk);
        saved.push(Saved {
            disk,
            disk_stamp,
            ..part.clone()
        });
    }
    if is_copy {
        pki::forget_operator(&cluster.dir.pki())?;
    }
    if saved.iter().any(|saved| saved.memory.is_some()) {
        resumed.save_all(&saved)?;
    }
    cluster.save()?;
    // Last: without its folder a node in the profile would count as one that never ran.
    gone.iter()
        .try_for_each(|dir| fsutil::remove_all(dir.root()))
}

/// Gives one node its disk, keys and certificates; returns the disk.
fn restore_node(
    host: &Host<'_>,
    cluster: &Cluster,
    index: usize,
    saved: &Saved,
    from: &SavedDir,
) -> Result<String> {
    let node = &cluster.profile.nodes[index];
    let files = from.part(index, &node.name).files();
    let (disk, dir) = (
        names::new_disk(cluster.name(), &node.name),
        cluster.node_dir(node),
    );
    host.create_overlay(&disk, &saved.disk, Mebibytes(node.machine.disk_mib))?;
    fsutil::create_private_dir(dir.root())?;
    dir.machine_runs()?;
    fsutil::copy_private(&files.pki(), &dir.pki())?;
    fsutil::copy_private(&files.addons(), &dir.addons())?;
    keys::hand_over(&dir, |to| keys::copy(&files, to))?;
    Ok(disk)
}

/// Gives a cluster the nodes that it had when it was saved; returns the folders of those that it has no
/// more. A node that it still has stays where it is.
fn take_nodes(
    env: &Env<'_>,
    host: &Host<'_>,
    cluster: &mut Cluster,
    saved: &Profile,
) -> Result<Vec<ProfileDir>> {
    let is_saved = |node: &NodeProfile| saved.nodes.iter().any(|s| s.name == node.name);
    let gone: Vec<NodeProfile> = cluster
        .profile
        .nodes
        .iter()
        .filter(|n| !is_saved(n))
        .cloned()
        .collect();
    let mut folders = Vec::new();
    for node in &gone {
        Machine::of_node(host, &cluster.profile, node)?.remove_own_files()?;
        folders.push(cluster.node_dir(node));
    }
    let mut taken = ports::of_others(env.store, cluster.name())?;
    let own = cluster.profile.host_ports().into_iter();
    taken.extend(own.map(|port| (port, cluster.name().clone())));
    let several = saved.nodes.len() > 1;
    let nodes = saved.nodes.iter().map(|node| {
        let mut choose = |role| {
            ports::choose(
                &mut taken,
                cluster.name(),
                role,
                several,
                AskedPorts::default(),
            )
        };
        let has = cluster.profile.nodes.iter().find(|n| n.name == node.name);
        let mut node = match has {
            Some(has) => NodeProfile {
                number: node.number,
                ..has.clone()
            },
            None => NodeProfile {
                uuid: uuid::Uuid::new_v4().to_string(),
                ports: choose(node.role)?,
                ..node.clone()
            },
        };
        if several && node.ports.link.is_none() {
            node.ports.link = choose(Role::Worker)?.link;
        }
        Ok(node)
    });
    cluster.profile.nodes = nodes.collect::<Result<_>>()?;
    Ok(folders)
}
