//! The cluster's context: in the profile's own kubeconfig and in the user's.

use std::path::Path;

use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::error::Result;
use crate::name::ProfileName;
use crate::pki::{self, CertName, Pki};
use crate::store::Store;
use crate::{fsutil, kubeconfig};

/// Returns the owner of a profile's entries in a kubeconfig.
pub(crate) fn owner(store: &Store, name: &ProfileName) -> kubeconfig::Owner {
    kubeconfig::Owner {
        profile: name.to_string(),
        home: store.home().to_owned(),
    }
}

/// Checks the user's kubeconfig: it parses, and the context's name is free or ours.
///
/// # Errors
/// [`crate::error::Kind::Kubeconfig`] otherwise.
pub(crate) fn check(store: &Store, name: &ProfileName, path: &Path) -> Result<()> {
    let text = kubeconfig::load(path)?;
    let owner = owner(store, name);
    kubeconfig::check_foreign(text.as_deref(), &name.resource_name(), &owner)
}

/// Writes the profile's own kubeconfig and the context in the user's; returns whether it is the
/// current one.
///
/// # Errors
/// [`crate::error::Kind::Kubeconfig`] when the user's file cannot be edited.
pub(crate) fn write(
    env: &Env<'_>,
    cluster: &Cluster,
    pki: &Pki,
    keep_current: bool,
) -> Result<bool> {
    let entry = entry(cluster, env.store, pki);
    let own = kubeconfig::render(&entry);
    fsutil::write_atomic(&cluster.dir.kubeconfig(), own.as_bytes(), 0o600)?;
    let path: &Path = &cluster.profile.kubeconfig;
    let step = env.progress.step("Write the kubeconfig context");
    if kubeconfig::install(path, &entry, !keep_current)? {
        step.done(format!("`{}` in {}", entry.name, path.display()));
    } else {
        step.skipped(format!("`{}` is there", entry.name));
    }
    let now = kubeconfig::inspect(kubeconfig::load(path)?.as_deref(), &entry)?;
    Ok(now.current)
}

fn entry(cluster: &Cluster, store: &Store, pki: &Pki) -> kubeconfig::Entry {
    kubeconfig::Entry {
        name: cluster.name().resource_name(),
        server: cluster.profile.server(),
        ca_pem: pki.cert(CertName::Ca).to_owned(),
        client_cert_pem: pki.cert(CertName::Admin).to_owned(),
        client_key_pem: pki.key(CertName::Admin).to_owned(),
        owner: owner(store, cluster.name()),
    }
}

/// Returns the context that a cluster should have in the user's kubeconfig.
///
/// # Errors
/// [`crate::error::Kind::State`] when the cluster's certificates are missing.
pub(crate) fn expected(cluster: &Cluster, store: &Store) -> Result<kubeconfig::Entry> {
    Ok(entry(cluster, store, &pki::load(&cluster.dir.pki())?))
}
