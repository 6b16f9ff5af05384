//! Renews certificates before their time.

use std::path::Path;

use super::ensure::{ensure, ensure_node};
use super::files;
use super::keys::Pki;
use super::names::{CertName, PkiSpec};
use crate::error::Result;
use crate::fsutil;

/// Takes the operator's authority and certificate away, so that [`ensure()`] makes new ones: what a
/// copy of a cluster begins with.
///
/// # Errors
/// [`crate::error::Kind::Internal`] when a file cannot be removed.
pub(crate) fn forget_operator(dir: &Path) -> Result<()> {
    for name in [CertName::Admin, CertName::OperatorCa] {
        // The key last: a certificate without its key would be an error.
        for file in [files::cert(name), files::key(name)] {
            fsutil::remove_all(&dir.join(file))?;
        }
    }
    Ok(())
}

/// Renews these certificates, and all others that [`ensure`] would; [`Pki::changed`] has them. All
/// but authorities get new keys; an authority keeps its key, so that what it signed stays valid,
/// but for the operator's: that is replaced, and then the cluster refuses what the earlier one
/// signed. What a crash leaves is completed by the next [`ensure`].
///
/// # Errors
/// As [`ensure()`].
pub(crate) fn renew(dir: &Path, spec: &PkiSpec, names: &[CertName]) -> Result<Pki> {
    // Nothing is taken away that could not be made again.
    let first = ensure(dir, spec)?;
    for name in names {
        match name {
            CertName::OperatorCa => forget_operator(dir)?,
            name => forget(dir, *name)?,
        }
    }
    Ok(joined(first, ensure(dir, spec)?))
}

/// Does the same for those of these certificates that a further node has of its own.
///
/// # Errors
/// As [`ensure_node`].
pub(crate) fn renew_node(
    dir: &Path,
    cluster: &Pki,
    node_dir: &Path,
    spec: &PkiSpec,
    names: &[CertName],
) -> Result<Pki> {
    let first = ensure_node(dir, cluster, node_dir, spec)?;
    let of_node = CertName::of_node(spec.role);
    for name in names.iter().filter(|name| of_node.contains(name)) {
        forget(node_dir, *name)?;
    }
    Ok(joined(first, ensure_node(dir, cluster, node_dir, spec)?))
}

fn forget(dir: &Path, name: CertName) -> Result<()> {
    fsutil::remove_all(&dir.join(files::cert(name)))?;
    match name.authority() {
        Some(_) => fsutil::remove_all(&dir.join(files::key(name))),
        None => Ok(()),
    }
}

fn joined(first: Pki, mut pki: Pki) -> Pki {
    pki.changed.extend(first.changed);
    pki.changed.sort_unstable();
    pki.changed.dedup();
    pki
}
