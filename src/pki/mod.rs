//! Keys and certificates of a cluster: made on the host, ECDSA P-256, laid out as kubeadm does.
//!
//! [`ensure()`] makes what is missing and renews what no longer fits or ends soon. The keys of
//! authorities and of service accounts are what a cluster's identity hangs on: they are made once,
//! and a lost one is an error rather than a new one that an existing cluster would not know. An
//! authority's certificate is renewed with the key that it has, so that all it signed stays valid.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use time::OffsetDateTime;

use crate::error::{Error, Kind, Result};
use crate::network::{Network, NodeNetwork};

mod check;
mod ensure;
mod files;
mod issue;
mod names;
mod renew;
mod survey;
#[cfg(test)]
mod tests;

pub use check::NOT_YET_VALID;
pub use ensure::ensure;
pub use names::CertName;
pub use renew::{forget_operator, renew};
pub use survey::{Found, expiry_fault, survey};

/// The service-account key's files: private and public.
const SERVICE_ACCOUNT: (&str, &str) = ("sa.key", "sa.pub");

/// What the certificates of a cluster depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PkiSpec {
    /// The network of the cluster.
    pub network: Network,
    /// The control plane node.
    pub node: NodeNetwork,
    /// The time to count validity from.
    pub now: OffsetDateTime,
}

impl PkiSpec {
    /// Returns what the certificates of a cluster depend on that has its first node only.
    pub fn of_first_node(now: OffsetDateTime) -> Self {
        let network = Network::default();
        PkiSpec {
            node: network.first_node(),
            network,
            now,
        }
    }
}

/// The keys and certificates of a cluster, PEM. Keys are PKCS #8.
#[derive(Clone)]
pub struct Pki {
    pairs: BTreeMap<CertName, Pair>,
    service_account_key: String,
    service_account_pub: String,
    changed: Vec<CertName>,
    renewed: Vec<Renewed>,
}

/// A certificate that was there and was made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewed {
    /// The certificate.
    pub name: CertName,
    /// Why: `it ends soon`.
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
            renewed: Vec::new(),
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

    /// Notes a certificate that was made; `fault` is what was wrong with the one before.
    fn made(&mut self, name: CertName, fault: Option<&'static str>) {
        self.changed.push(name);
        self.renewed
            .extend(fault.map(|reason| Renewed { name, reason }));
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

    /// What [`ensure()`] made or renewed this time; a running component must be given it.
    pub fn changed(&self) -> &[CertName] {
        &self.changed
    }

    /// Those of [`Pki::changed`] that were there before, and why they were made anew.
    pub fn renewed(&self) -> &[Renewed] {
        &self.renewed
    }
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
        renewed: Vec::new(),
    })
}

const START_OVER: &str =
    "restore it from a backup, or make the cluster anew: kubby delete, then kubby start";

fn damaged(dir: &Path, file: &str) -> Error {
    Error::new(
        Kind::State,
        format!("{} is damaged", dir.join(file).display()),
    )
    .with_hint(START_OVER)
}
