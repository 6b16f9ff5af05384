//! The cluster's context: in the profile's own kubeconfig and in the user's.

use std::path::Path;

use crate::cluster::Access;
use crate::cluster::machine::preflight;
use crate::error::Result;
use crate::pki::{self, CertName, Pki};
use crate::progress::Progress;
use crate::store::Store;
use crate::{fsutil, kubeconfig};

/// Writes the profile's own kubeconfig and the context in the user's; returns whether it is the
/// current one.
pub(crate) fn write(
    store: &Store,
    access: &Access,
    pki: &Pki,
    keep_current: bool,
    progress: &dyn Progress,
) -> Result<bool> {
    let entry = entry(access, store, pki);
    let own = kubeconfig::render(&entry);
    fsutil::write_atomic(&access.dir.kubeconfig(), own.as_bytes(), 0o600)?;
    let path: &Path = &access.profile.kubeconfig;
    let step = progress.step("Write the kubeconfig context");
    if kubeconfig::install(path, &entry, !keep_current)? {
        step.done(format!("`{}` in {}", entry.name, path.display()));
    } else {
        step.skipped(format!("`{}` is there", entry.name));
    }
    let now = kubeconfig::inspect(kubeconfig::load(path)?.as_deref(), &entry)?;
    Ok(now.current)
}

fn entry(access: &Access, store: &Store, pki: &Pki) -> kubeconfig::Entry {
    kubeconfig::Entry {
        name: access.profile.name.resource_name(),
        server: access.profile.server(),
        ca_pem: pki.cert(CertName::Ca).to_owned(),
        client_cert_pem: pki.cert(CertName::Admin).to_owned(),
        client_key_pem: pki.key(CertName::Admin).to_owned(),
        owner: preflight::kubeconfig_owner(store, &access.profile.name),
    }
}

/// The context that a cluster should have in the user's kubeconfig.
///
/// # Errors
/// [`crate::error::Kind::State`] when the cluster's certificates are missing.
pub(crate) fn expected(access: &Access, store: &Store) -> Result<kubeconfig::Entry> {
    Ok(entry(access, store, &pki::load(&access.dir.pki())?))
}
