//! Keys and certificates of a cluster: made on the host, ECDSA P-256, laid out as kubeadm does.
//!
//! [`ensure`] makes what is missing and renews what no longer fits. Authorities and the
//! service-account key are what a cluster's identity hangs on: they are made once, and a lost
//! one is an error rather than a new one that an existing cluster would not know.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use rcgen::{Issuer, KeyPair};
use time::OffsetDateTime;
use x509_parser::pem::Pem;

use crate::error::{Error, Kind, Result, ResultExt as _};
use crate::fsutil;

mod check;
mod files;
mod issue;
mod names;
#[cfg(test)]
mod tests;

pub use names::CertName;

/// The service-account key's files: private and public.
const SERVICE_ACCOUNT: (&str, &str) = ("sa.key", "sa.pub");

/// What the certificates of a cluster depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PkiSpec {
    /// The control plane node's name.
    pub node_name: String,
    /// The node's own address.
    pub node_ip: IpAddr,
    /// The address of the Service `kubernetes`, the first of the service network: `10.96.0.1`.
    pub service_ip: IpAddr,
    /// Further DNS names and IP addresses under which the API server is reached.
    pub extra_sans: Vec<String>,
    /// The time to count validity from.
    pub now: OffsetDateTime,
}

/// The keys and certificates of a cluster, PEM. Keys are PKCS #8.
#[derive(Clone)]
pub struct Pki {
    pairs: BTreeMap<CertName, Pair>,
    service_account_key: String,
    service_account_pub: String,
    changed: Vec<CertName>,
}

/// A certificate with its key, as texts.
#[derive(Clone)]
struct Pair {
    cert: String,
    key: String,
    not_after: OffsetDateTime,
}

impl fmt::Debug for Pki {
    /// Leaves everything secret out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pki")
            .field("changed", &self.changed)
            .finish_non_exhaustive()
    }
}

impl Pki {
    /// All names without any key or certificate: for what depends on everything else.
    pub fn blank() -> Self {
        let none = || Pair {
            cert: String::new(),
            key: String::new(),
            not_after: OffsetDateTime::UNIX_EPOCH,
        };
        Pki {
            pairs: CertName::ALL
                .into_iter()
                .map(|name| (name, none()))
                .collect(),
            service_account_key: String::new(),
            service_account_pub: String::new(),
            changed: Vec::new(),
        }
    }

    /// A certificate, PEM.
    pub fn cert(&self, name: CertName) -> &str {
        &self.pairs[&name].cert
    }

    /// A certificate's private key, PEM.
    pub fn key(&self, name: CertName) -> &str {
        &self.pairs[&name].key
    }

    /// The key that signs service-account tokens, PEM.
    pub fn service_account_key(&self) -> &str {
        &self.service_account_key
    }

    /// The public key that service-account tokens are checked with, PEM.
    pub fn service_account_pub(&self) -> &str {
        &self.service_account_pub
    }

    /// When each certificate ends, in the order of [`CertName::ALL`].
    pub fn expiry(&self) -> impl Iterator<Item = (CertName, OffsetDateTime)> + '_ {
        self.pairs
            .iter()
            .map(|(name, pair)| (*name, pair.not_after))
    }

    /// The certificate that ends first.
    pub fn first_to_expire(&self) -> Option<(CertName, OffsetDateTime)> {
        self.expiry().min_by_key(|(_, end)| *end)
    }

    /// What [`ensure`] made or renewed this time; a running component must be given it.
    pub fn changed(&self) -> &[CertName] {
        &self.changed
    }
}

/// Makes the keys and certificates that are missing in a directory, renews those that no longer
/// fit the specification or end within 30 days, and keeps all others. Running it twice changes
/// nothing; running it after a crash completes what the first run began.
///
/// Directories have mode 0700 and files 0600. Nobody else may work on the directory meanwhile.
///
/// # Errors
/// [`Kind::State`] when an authority or the service-account key is damaged, lost or past its
/// end although the cluster exists; [`Kind::Usage`] when an additional name cannot be in a
/// certificate; [`Kind::Internal`] when the file system refuses.
pub fn ensure(dir: &Path, spec: &PkiSpec) -> Result<Pki> {
    fsutil::create_private_dir(&dir.join("etcd"))?;
    let mut pki = Pki {
        pairs: BTreeMap::new(),
        service_account_key: String::new(),
        service_account_pub: String::new(),
        changed: Vec::new(),
    };
    let mut authorities = BTreeMap::new();
    for name in CertName::ALL
        .into_iter()
        .filter(|n| n.authority().is_none())
    {
        authorities.insert(name, ensure_authority(dir, name, spec, &mut pki)?);
    }
    ensure_service_account(dir, &mut pki)?;
    for name in CertName::ALL {
        if let Some(authority) = name.authority().and_then(|a| authorities.get(&a)) {
            ensure_leaf(dir, name, authority, spec, &mut pki)?;
        }
    }
    Ok(pki)
}

/// Reads the keys and certificates that are in a directory, without changing anything: for
/// commands that only show or use them.
///
/// # Errors
/// [`Kind::State`] when something is missing or damaged.
pub fn load(dir: &Path) -> Result<Pki> {
    let need = |file: String| {
        files::look(dir, &file)?.ok_or_else(|| {
            Error::new(
                Kind::State,
                format!("{} is missing", dir.join(&file).display()),
            )
            .with_hint("kubby start makes what is missing")
        })
    };
    let mut pairs = BTreeMap::new();
    for name in CertName::ALL {
        let (cert, key) = (need(files::cert(name))?, need(files::key(name))?);
        let not_after = check::decode(&cert).as_ref().and_then(check::not_after);
        let not_after = not_after.ok_or_else(|| damaged(dir, &files::cert(name)))?;
        pairs.insert(
            name,
            Pair {
                cert,
                key,
                not_after,
            },
        );
    }
    Ok(Pki {
        pairs,
        service_account_key: need(SERVICE_ACCOUNT.0.into())?,
        service_account_pub: need(SERVICE_ACCOUNT.1.into())?,
        changed: Vec::new(),
    })
}

/// Takes the operator's authority and certificate away, so that [`ensure`] makes new ones: what a
/// copy of a cluster begins with.
///
/// # Errors
/// [`Kind::Internal`] when a file cannot be removed.
pub fn forget_operator(dir: &Path) -> Result<()> {
    for name in [CertName::Admin, CertName::OperatorCa] {
        // The key last: a certificate without its key would be an error.
        for file in [files::cert(name), files::key(name)] {
            fsutil::remove_all(&dir.join(file))?;
        }
    }
    Ok(())
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
    let key = match files::read(dir, &key_file)? {
        Some(key) => parse_key(&key).ok_or_else(|| damaged(dir, &key_file))?,
        None if !name.is_replaceable() && (cert.is_some() || has_certificates_of(dir, name)) => {
            return Err(lost(dir, &key_file));
        }
        None => new_key(dir, &key_file)?,
    };
    // A certificate that a crash kept from being written can be made again: what it signed
    // stays valid, as the key and the name are the same.
    let usable = |text: &String| {
        check::decode(text).is_some_and(|pem| {
            !name.is_replaceable() || pem.parse_x509().is_ok_and(|c| check::is_for_key(&c, &key))
        })
    };
    let cert = match cert.filter(usable) {
        Some(cert) => cert,
        None => {
            let cert = issue::authority(&name.profile(spec), &key, spec.now)?;
            files::write(dir, &cert_file, &cert)?;
            pki.changed.push(name);
            cert
        }
    };
    let certificate = check::decode(&cert).ok_or_else(|| damaged(dir, &cert_file))?;
    let parsed = certificate
        .parse_x509()
        .context(Kind::Internal, || "certificate".into())?;
    if !check::is_for_key(&parsed, &key) || !parsed.is_ca() {
        return Err(damaged(dir, &cert_file).with_detail("reason", "it is not for its key"));
    }
    let not_after = parsed.validity().not_after.to_datetime();
    if not_after <= spec.now {
        return Err(Error::new(
            Kind::State,
            format!(
                "the cluster's authority {} ended on {}",
                cert_file,
                not_after.date()
            ),
        )
        .with_hint("check the clock: date; if it is right, make the cluster anew: kubby delete"));
    }
    pki.pairs.insert(
        name,
        Pair {
            cert: cert.clone(),
            key: key.serialize_pem(),
            not_after,
        },
    );
    let issuer = Issuer::from_ca_cert_pem(&cert, key).context(Kind::State, || {
        format!("{cert_file} cannot be used for signing")
    })?;
    Ok(Authority {
        issuer,
        certificate,
        not_after,
    })
}

/// Whether an authority has signed something already, so that there may be a cluster of it.
fn has_certificates_of(dir: &Path, authority: CertName) -> bool {
    CertName::ALL
        .into_iter()
        .any(|n| n.authority() == Some(authority) && dir.join(files::cert(n)).exists())
}

fn ensure_service_account(dir: &Path, pki: &mut Pki) -> Result<()> {
    let (key_file, pub_file) = SERVICE_ACCOUNT;
    let public = files::read(dir, pub_file)?;
    let key = match files::read(dir, key_file)? {
        Some(key) => parse_key(&key).ok_or_else(|| damaged(dir, key_file))?,
        None if public.is_some() || has_certificates_of(dir, CertName::Ca) => {
            return Err(lost(dir, key_file));
        }
        None => new_key(dir, key_file)?,
    };
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
    // A key that cannot be read is no loss here: a new one does as well.
    let key = files::read(dir, &key_file)?.and_then(|text| parse_key(&text));
    let old = files::read(dir, &cert_file)?
        .zip(key.as_ref())
        .map(|(cert, _)| cert);
    let key = match key {
        Some(key) => key,
        None => new_key(dir, &key_file)?,
    };
    let fits = |cert: &String| {
        check::fault(cert, &key, &profile, &authority.certificate, spec.now).is_none()
    };
    let cert = match old.filter(fits) {
        Some(cert) => cert,
        None => {
            let cert = issue::leaf(
                &profile,
                &key,
                &authority.issuer,
                authority.not_after,
                spec.now,
            )?;
            files::write(dir, &cert_file, &cert)?;
            pki.changed.push(name);
            cert
        }
    };
    let not_after = check::decode(&cert).as_ref().and_then(check::not_after);
    let not_after = not_after.ok_or_else(|| damaged(dir, &cert_file))?;
    pki.pairs.insert(
        name,
        Pair {
            cert,
            key: key.serialize_pem(),
            not_after,
        },
    );
    Ok(())
}

fn parse_key(pem: &str) -> Option<KeyPair> {
    KeyPair::from_pem(pem)
        .ok()
        .filter(|key| key.is_compatible(&rcgen::PKCS_ECDSA_P256_SHA256))
}

fn new_key(dir: &Path, file: &str) -> Result<KeyPair> {
    let key = issue::new_key()?;
    files::write(dir, file, &key.serialize_pem())?;
    Ok(key)
}

const START_OVER: &str =
    "restore it from a backup, or make the cluster anew: kubby delete, then kubby start";

fn lost(dir: &Path, file: &str) -> Error {
    let path = dir.join(file);
    Error::new(
        Kind::State,
        format!(
            "{} is missing, and the cluster's certificates depend on it",
            path.display()
        ),
    )
    .with_hint(START_OVER)
}

fn damaged(dir: &Path, file: &str) -> Error {
    Error::new(
        Kind::State,
        format!("{} is damaged", dir.join(file).display()),
    )
    .with_hint(START_OVER)
}
