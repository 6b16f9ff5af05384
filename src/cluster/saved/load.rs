//! Starting a cluster's machine from a saved state instead of booting it.

use time::OffsetDateTime;

use crate::cluster::Access;
use crate::cluster::machine::resources::{self, Names};
use crate::cluster::saved::state::{HostMark, Saved};
use crate::error::{Error, Kind, Result};
use crate::hypervisor::{Acceleration, HostInfo, Hypervisor, Incoming, PortForward, Version};
use crate::pki;
use crate::store::{ProfileDir, Store};
use crate::trace;

/// The first QEMU that saves memory with each page at a fixed place.
const OLDEST_QEMU: Version = Version::new(9, 0, 0);

/// Why machines cannot be saved and taken up again on this host; nothing when they can.
pub fn obstacle(host: &HostInfo) -> Option<String> {
    if !host.is_local() {
        return Some("the virtual machines run on another host".into());
    }
    if host.qemu_version < OLDEST_QEMU {
        return Some(format!(
            "QEMU {} cannot, {} and newer can",
            host.qemu_version, OLDEST_QEMU
        ));
    }
    // The saved files are QEMU's own: under the system's libvirt only root may look into them.
    (!resources::reaches_files(&host.uri)).then(|| "under qemu:///system only root can".into())
}

/// As [`obstacle`], for commands that cannot do without.
///
/// # Errors
/// [`Kind::Preflight`] with the reason.
pub fn require(host: &HostInfo) -> Result<()> {
    match obstacle(host) {
        Some(why) => Err(Error::new(
            Kind::Preflight,
            format!("machines cannot be saved here: {why}"),
        )),
        None => Ok(()),
    }
}

/// Checks that a saved state can be taken up on this host, its files included.
///
/// # Errors
/// [`Kind::State`] with the reason.
pub fn check(saved: &Saved, names: &Names, host: &HostInfo) -> Result<()> {
    if saved.memory.is_some()
        && let Some(why) = saved.host.difference(&HostMark::of(host))
    {
        return Err(Error::new(
            Kind::State,
            format!("the saved state does not fit this host any more: {why}"),
        ));
    }
    saved.check(&names.target)
}

/// Checks that the certificates of a template last long enough: each copy of it would have to
/// restart with others, which takes longer than making the template anew.
///
/// # Errors
/// [`Kind::State`] that names a certificate.
pub fn check_certificates(files: &ProfileDir) -> Result<()> {
    match pki::expiry_fault(&files.pki(), OffsetDateTime::now_utc())? {
        None => Ok(()),
        Some((name, fault)) => Err(Error::new(
            Kind::State,
            format!("its certificate {}: {fault}", name.stem()),
        )),
    }
}

/// Starts the machine from saved memory. The disk must be there already. `consume` is called when
/// everything is loaded, before the first instruction runs.
///
/// # Errors
/// [`Kind::Hypervisor`] when libvirt or QEMU refuses, [`Kind::State`] when there is no memory in
/// the saved state, and those of `consume`; the machine is off then.
pub fn start(
    hypervisor: &dyn Hypervisor,
    store: &Store,
    access: &Access,
    acceleration: Acceleration,
    saved: &Saved,
    consume: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let names = Names::new(store, &access.profile);
    let memory = saved
        .memory
        .as_ref()
        .ok_or_else(|| Error::new(Kind::State, "the saved state holds no memory"))?;
    let span = trace::span("define the domain");
    let spec = resources::domain(hypervisor, store, &names, &access.profile, acceleration)?;
    hypervisor.define(&spec)?;
    drop(span);
    let [pages, devices] = saved
        .files(&names.target)
        .map(|path| path.to_string_lossy().into_owned());
    let incoming = Incoming {
        memory: pages,
        offset: memory.offset,
        devices,
    };
    let span = trace::span("load the saved state");
    hypervisor.start_paused_from(&spec, &incoming)?;
    drop(span);
    let _span = trace::span("let the machine run");
    let run = consume()
        .and_then(|()| open_ports(hypervisor, &names.domain, &spec.forwards))
        .and_then(|()| hypervisor.resume(&names.domain));
    if run.is_err() {
        let _ = hypervisor.destroy(&names.domain);
    }
    run.map(drop)
}

/// Opens those of a cluster's own ports that are not open yet.
///
/// # Errors
/// [`Kind::Preflight`] when QEMU cannot listen on one, [`Kind::Hypervisor`] when the domain does
/// not run.
pub fn open_ports(hypervisor: &dyn Hypervisor, domain: &str, wanted: &[PortForward]) -> Result<()> {
    let open = hypervisor.forwards(domain)?;
    for forward in wanted.iter().filter(|forward| !open.contains(forward)) {
        hypervisor.add_forward(domain, *forward)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
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
