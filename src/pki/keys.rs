//! The keys and certificates of a cluster in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use time::OffsetDateTime;

use super::check;
use super::files::{self, SERVICE_ACCOUNT};
use super::names::CertName;
use crate::error::{Error, Result};

/// The keys and certificates of a cluster, PEM. Keys are PKCS #8.
#[derive(Clone, Default)]
pub struct Pki {
    pairs: BTreeMap<CertName, Pair>,
    /// The key that signs service-account tokens, PEM.
    pub service_account_key: String,
    /// The public key that service-account tokens are checked with, PEM.
    pub service_account_pub: String,
    pub(super) changed: Vec<CertName>,
    renewed: Vec<Renewed>,
}

/// A certificate that was there and was renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewed {
    /// The certificate.
    pub name: CertName,
    /// The reason, such as `it ends soon`.
    pub reason: &'static str,
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
    /// Returns all names with a text in place of each key and certificate, for a plan that is only compared
    /// with another.
    pub fn made_up(text: &str) -> Self {
        let none = || Pair {
            cert: text.to_owned(),
            key: text.to_owned(),
            not_after: OffsetDateTime::UNIX_EPOCH,
        };
        Pki {
            pairs: CertName::ALL.map(|name| (name, none())).into(),
            ..Pki::default()
        }
    }

    /// Returns a certificate, PEM.
    pub fn cert(&self, name: CertName) -> &str {
        &self.pairs[&name].cert
    }

    /// Returns a certificate's private key, PEM.
    pub fn key(&self, name: CertName) -> &str {
        &self.pairs[&name].key
    }

    /// Returns the same as it is when it is read again: nothing was made.
    pub(crate) fn unchanged(&self) -> Self {
        Pki {
            changed: Vec::new(),
            renewed: Vec::new(),
            ..self.clone()
        }
    }

    /// Adds a certificate and its key.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) when the certificate is damaged.
    pub(super) fn insert(
        &mut self,
        dir: &Path,
        name: CertName,
        cert: String,
        key: String,
    ) -> Result<OffsetDateTime> {
        let not_after = check::decode(&cert).as_ref().and_then(check::not_after);
        let not_after = not_after.ok_or_else(|| damaged(dir, &files::cert(name)))?;
        let pair = Pair {
            cert,
            key,
            not_after,
        };
        self.pairs.insert(name, pair);
        Ok(not_after)
    }

    /// Notes a certificate that was made; `fault` is what was wrong with the one before.
    pub(super) fn made(&mut self, name: CertName, fault: Option<&'static str>) {
        self.changed.push(name);
        self.renewed
            .extend(fault.map(|reason| Renewed { name, reason }));
    }

    /// Returns the end of each certificate, in the order of [`CertName::ALL`].
    pub fn expiry(&self) -> impl Iterator<Item = (CertName, OffsetDateTime)> + '_ {
        self.pairs
            .iter()
            .map(|(name, pair)| (*name, pair.not_after))
    }

    /// Returns the certificate that ends first.
    pub fn first_to_expire(&self) -> Option<(CertName, OffsetDateTime)> {
        self.expiry().min_by_key(|(_, end)| *end)
    }

    /// Returns the certificates that [`ensure`](super::ensure()) made or renewed this time, which
    /// running components do not have yet.
    pub fn changed(&self) -> &[CertName] {
        &self.changed
    }

    /// Returns those of [`Pki::changed`] that were there before, with the reasons.
    pub fn renewed(&self) -> &[Renewed] {
        &self.renewed
    }
}

/// Reads the keys and certificates that are in a directory, without changing anything: for
/// commands that only show or use them.
///
/// # Errors
/// [`Kind::State`](crate::error::Kind::State) when something is missing or damaged.
pub fn load(dir: &Path) -> Result<Pki> {
    let need = |file: String| {
        files::look(dir, &file)?.ok_or_else(|| {
            Error::state(format!("{} is missing", dir.join(&file).display()))
                .with_hint("kubby start makes what is missing")
        })
    };
    let mut pki = Pki::default();
    for name in CertName::ALL {
        pki.insert(dir, name, need(files::cert(name))?, need(files::key(name))?)?;
    }
    pki.service_account_key = need(SERVICE_ACCOUNT.0.into())?;
    pki.service_account_pub = need(SERVICE_ACCOUNT.1.into())?;
    Ok(pki)
}

pub(super) const START_OVER: &str =
    "restore it from a backup, or recreate the cluster: kubby delete, then kubby start";

pub(super) fn damaged(dir: &Path, file: &str) -> Error {
    Error::state(format!("{} is damaged", dir.join(file).display())).with_hint(START_OVER)
}
