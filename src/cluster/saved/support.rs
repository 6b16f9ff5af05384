//! Whether machines can be saved and loaded on a host, and whether a saved state still can be used.

use std::path::Path;

use time::OffsetDateTime;

use crate::cluster::Cluster;
use crate::cluster::machine::Machine;
use crate::cluster::machine::host::reaches_files;
use crate::cluster::saved::state::{HostMark, Saved};
use crate::error::{Error, Result};
use crate::hypervisor::{HostInfo, Version};
use crate::pki;
use crate::store::ProfileDir;

/// The first QEMU that saves memory with each page at a fixed place.
const OLDEST_QEMU: Version = Version::new(9, 0, 0);

/// Returns why machines cannot be saved and loaded on this host; `None` if they can.
pub(crate) fn obstacle(host: &HostInfo) -> Option<String> {
    if !host.is_local() {
        return Some("the virtual machines run on another host".into());
    }
    if host.qemu_version < OLDEST_QEMU {
        return Some(format!(
            "that requires QEMU {OLDEST_QEMU} or newer (found {})",
            host.qemu_version
        ));
    }
    // The saved files belong to QEMU's user: with the system's libvirt only root can read them.
    (!reaches_files(&host.uri)).then(|| "with qemu:///system that requires root".into())
}

/// Fails if machines cannot be saved on this host.
///
/// # Errors
/// [`Kind::Preflight`](crate::error::Kind::Preflight) with the reason.
pub(crate) fn require(host: &HostInfo) -> Result<()> {
    match obstacle(host) {
        Some(why) => Err(Error::preflight(format!(
            "machines cannot be saved here: {why}"
        ))),
        None => Ok(()),
    }
}

/// Checks that a saved state can be loaded on this host, its files included.
///
/// # Errors
/// [`Kind::State`](crate::error::Kind::State) with the reason.
pub(crate) fn check(saved: &Saved, pool: &Path, host: &HostInfo) -> Result<()> {
    if saved.memory.is_some()
        && let Some(why) = saved.host.difference(&HostMark::of(host))
    {
        return Err(Error::state(format!(
            "the saved state does not fit this host any more: {why}"
        )));
    }
    saved.check(pool)
}

/// Checks the saved states of all nodes of a cluster.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_all(parts: &[Saved], pool: &Path, host: &HostInfo) -> Result<()> {
    parts.iter().try_for_each(|saved| check(saved, pool, host))
}

/// Checks that all nodes of a cluster have disks.
///
/// # Errors
/// [`Kind::State`](crate::error::Kind::State) otherwise.
pub(crate) fn require_disks(cluster: &Cluster, machines: &[Machine<'_>]) -> Result<()> {
    let (name, flag) = (cluster.name(), cluster.flag());
    for (machine, node) in machines.iter().zip(&cluster.profile.nodes) {
        machine.host.has_own_pool()?;
        // The next start makes the disk of a machine that never ran again.
        let never_ran = cluster.node_dir(node).never_ran().exists();
        if never_ran || !machine.host.volumes()?.has(&node.disk) {
            return Err(Error::state(match machines.len() {
                1 => format!("the cluster `{name}` has no disk yet"),
                _ => format!(
                    "the node `{}` of the cluster `{name}` has no disk yet",
                    node.name
                ),
            })
            .with_hint(format!("kubby start{flag}")));
        }
    }
    Ok(())
}

/// Checks that the certificates of a template last long enough: each copy would have to restart with
/// renewed ones, which takes longer than saving a new template.
///
/// # Errors
/// [`Kind::State`](crate::error::Kind::State) that names a certificate.
pub(crate) fn check_certificates(files: &ProfileDir) -> Result<()> {
    match pki::expiry_fault(&files.pki(), OffsetDateTime::now_utc())? {
        None => Ok(()),
        Some((name, fault)) => Err(Error::state(format!(
            "its certificate {}: {fault}",
            name.stem()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::pki::PkiSpec;
    use time::Duration;

    #[test]
    fn a_template_near_the_end_of_its_certificates_is_not_used() {
        for (age, fault) in [
            (300, None),
            (340, Some("its certificate apiserver: it ends soon")),
            (800, Some("its certificate apiserver: it has ended")),
            (-2, Some("its certificate ca: it is not valid yet")),
        ] {
            let tmp = tempfile::tempdir().unwrap();
            let files = ProfileDir::at(tmp.path().to_owned());
            let spec = PkiSpec::of_first_node(OffsetDateTime::now_utc() - Duration::days(age));
            pki::ensure(&files.pki(), &spec).unwrap();
            // As templates are kept: their copies get operators of their own.
            pki::forget_operator(&files.pki()).unwrap();
            let found = check_certificates(&files).err();
            assert_eq!(found.as_ref().map(Error::message), fault, "{age}");
            assert!(found.is_none_or(|e| e.kind() == Kind::State));
        }
    }
}
