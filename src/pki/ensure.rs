//! Making what is missing, and renewing what no longer fits.

use std::collections::BTreeMap;
use std::path::Path;

use rcgen::{Issuer, KeyPair};
use time::{Duration, OffsetDateTime};
use x509_parser::pem::Pem;

use super::files::{self, SERVICE_ACCOUNT};
use super::keys::{self, Pki, damaged};
use super::names::{CertName, PkiSpec};
use super::{check, issue};
use crate::error::{Error, Kind, Result, ResultExt as _};
use crate::fsutil;

/// Authorities that end sooner than this are renewed: what they sign must not outlive them, and is
/// to last its whole time.
pub(super) const RENEW_AUTHORITY_BEFORE: Duration =
    issue::LEAF_LIFE.saturating_add(check::RENEW_BEFORE);

/// Makes the keys and certificates that are missing in a directory, renews those that no longer
/// fit the specification or end within 30 days, and keeps all others. Running it twice changes
/// nothing; running it after a crash completes what the first run began.
///
/// Directories have mode 0700 and files 0600. No other process may work on the directory meanwhile.
///
/// # Errors
/// [`Kind::State`] when an authority or the service-account key is damaged or lost although the
/// cluster exists; [`Kind::Usage`] when the node's name cannot be in a
/// certificate; [`Kind::Internal`] when the file system refuses.
pub fn ensure(dir: &Path, spec: &PkiSpec) -> Result<Pki> {
    fsutil::create_private_dir(&dir.join("etcd"))?;
    let mut pki = Pki::default();
    let mut authorities = BTreeMap::new();
    for name in CertName::ALL {
        if name.authority().is_none() {
            authorities.insert(name, ensure_authority(dir, name, spec, &mut pki)?);
        }
    }
    ensure_service_account(dir, &mut pki)?;
    for name in CertName::ALL {
        if let Some(authority) = name.authority().and_then(|a| authorities.get(&a)) {
            ensure_leaf(dir, name, authority, spec, &mut pki)?;
        }
    }
    Ok(pki)
}

/// Does the same for the certificates that each node has of its own, in a directory of that node, and
/// returns them together with those of its cluster, whose directory is `dir`.
///
/// # Errors
/// As [`ensure`].
pub(crate) fn ensure_node(
    dir: &Path,
    cluster: &Pki,
    node_dir: &Path,
    spec: &PkiSpec,
) -> Result<Pki> {
    fsutil::create_private_dir(&node_dir.join("etcd"))?;
    let mut pki = cluster.unchanged();
    for name in CertName::of_node(spec.role) {
        if let Some(authority) = name.authority() {
            let authority = ensure_authority(dir, authority, spec, &mut pki)?;
            ensure_leaf(node_dir, name, &authority, spec, &mut pki)?;
        }
    }
    Ok(pki)
}

/// An authority that is ready to sign.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Pem,
    not_after: OffsetDateTime,
}

fn ensure_authority(
    dir: &Path,
    name: CertName,
    spec: &PkiSpec,
    pki: &mut Pki,
) -> Result<Authority> {
    let (cert_file, key_file) = (files::cert(name), files::key(name));
    let cert = files::read(dir, &cert_file)?;
    let key = lasting_key(dir, &key_file, || {
        !name.is_replaceable() && (cert.is_some() || has_certificates_of(dir, name))
    })?;
    // A certificate that a crash kept from being written can be made again: what it signed
    // stays valid, as the key and the name are the same.
    let usable = |text: &String| {
        check::decode(text).is_some_and(|pem| {
            !name.is_replaceable() || pem.parse_x509().is_ok_and(|c| check::is_for_key(&c, &key))
        })
    };
    let old = cert.filter(usable);
    let fault = match &old {
        Some(cert) => authority_fault(dir, &cert_file, cert, &key, spec.now)?,
        None => None,
    };
    let cert = match old.filter(|_| fault.is_none()) {
        Some(cert) => cert,
        None => {
            let cert = issue::authority(&name.profile(spec), &key, spec.now)?;
            files::write(dir, &cert_file, &cert)?;
            pki.made(name, fault);
            cert
        }
    };
    let certificate = check::decode(&cert).ok_or_else(|| damaged(dir, &cert_file))?;
    let not_after = pki.insert(dir, name, cert.clone(), key.serialize_pem())?;
    let issuer = Issuer::from_ca_cert_pem(&cert, key).context(Kind::State, || {
        format!("{cert_file} cannot be used for signing")
    })?;
    Ok(Authority {
        issuer,
        certificate,
        not_after,
    })
}

/// Returns the reason for which an authority's certificate must be renewed, with the key that it
/// has.
fn authority_fault(
    dir: &Path,
    file: &str,
    cert: &str,
    key: &KeyPair,
    now: OffsetDateTime,
) -> Result<Option<&'static str>> {
    let pem = check::decode(cert).ok_or_else(|| damaged(dir, file))?;
    let parsed = pem
        .parse_x509()
        .context(Kind::Internal, || "certificate".into())?;
    if !check::is_for_key(&parsed, key) || !parsed.is_ca() {
        return Err(damaged(dir, file).with_detail("reason", "it is not for its key"));
    }
    let before = RENEW_AUTHORITY_BEFORE;
    Ok(check::untimely(parsed.validity(), now, before))
}

/// Returns whether an authority has signed something already, so that there may be a cluster of it.
fn has_certificates_of(dir: &Path, authority: CertName) -> bool {
    CertName::ALL
        .into_iter()
        .any(|n| n.authority() == Some(authority) && dir.join(files::cert(n)).exists())
}

fn ensure_service_account(dir: &Path, pki: &mut Pki) -> Result<()> {
    let (key_file, pub_file) = SERVICE_ACCOUNT;
    let public = files::read(dir, pub_file)?;
    let key = lasting_key(dir, key_file, || {
        public.is_some() || has_certificates_of(dir, CertName::Ca)
    })?;
    pki.service_account_key = key.serialize_pem();
    pki.service_account_pub = key.public_key_pem();
    if public.as_ref() != Some(&pki.service_account_pub) {
        files::write(dir, pub_file, &pki.service_account_pub)?;
    }
    Ok(())
}

fn ensure_leaf(
    dir: &Path,
    name: CertName,
    authority: &Authority,
    spec: &PkiSpec,
    pki: &mut Pki,
) -> Result<()> {
    let (cert_file, key_file) = (files::cert(name), files::key(name));
    let profile = name.profile(spec);
    // A key that cannot be read is replaced: a new one does as well.
    let key = files::read(dir, &key_file)?.and_then(|text| parse_key(&text));
    let old = files::read(dir, &cert_file)?
        .zip(key.as_ref())
        .map(|(cert, _)| cert);
    let key = match key {
        Some(key) => key,
        None => new_key(dir, &key_file)?,
    };
    let fault = old
        .as_ref()
        .and_then(|cert| check::fault(cert, &key, &profile, &authority.certificate, spec.now));
    let cert = match old.filter(|_| fault.is_none()) {
        Some(cert) => cert,
        None => {
            let end = authority.not_after;
            let cert = issue::leaf(&profile, &key, &authority.issuer, end, spec.now)?;
            files::write(dir, &cert_file, &cert)?;
            pki.made(name, fault);
            cert
        }
    };
    pki.insert(dir, name, cert, key.serialize_pem()).map(drop)
}

pub(super) fn parse_key(pem: &str) -> Option<KeyPair> {
    KeyPair::from_pem(pem)
        .ok()
        .filter(|key| key.is_compatible(&rcgen::PKCS_ECDSA_P256_SHA256))
}

fn new_key(dir: &Path, file: &str) -> Result<KeyPair> {
    let key = issue::new_key()?;
    files::write(dir, file, &key.serialize_pem())?;
    Ok(key)
}

/// Returns the key in a file, a new one where it is missing and `is_used` says that nothing depends on
/// it yet.
fn lasting_key(dir: &Path, file: &str, is_used: impl FnOnce() -> bool) -> Result<KeyPair> {
    match files::read(dir, file)? {
        Some(key) => parse_key(&key).ok_or_else(|| damaged(dir, file)),
        None if is_used() => Err(Error::state(format!(
            "{} is missing, and the cluster's certificates depend on it",
            dir.join(file).display()
        ))
        .with_hint(keys::START_OVER)),
        None => new_key(dir, file),
    }
}
