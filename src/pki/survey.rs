//! Lists the certificates on the disk, and the faults that the next [`super::ensure()`] repairs.

use std::path::Path;

use time::OffsetDateTime;
use x509_parser::pem::Pem;

use super::ensure::{RENEW_AUTHORITY_BEFORE, parse_key};
use super::names::{CertName, PkiSpec};
use super::{check, files};
use crate::error::Result;

/// A certificate as it is on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The certificate.
    pub name: CertName,
    /// Its subject, empty where it is missing or damaged.
    pub subject: String,
    /// The time of its end; `None` where it is missing or damaged.
    pub ends: Option<OffsetDateTime>,
    /// The reason for which the next start renews it; `None` when it is as it should be.
    pub fault: Option<&'static str>,
}

/// Returns all certificates of a cluster in the order of [`CertName::ALL`], as they are in a
/// directory. Changes nothing.
///
/// # Errors
/// [`crate::error::Kind::Internal`] when a file that is there cannot be read.
pub(crate) fn survey(dir: &Path, spec: &PkiSpec) -> Result<Vec<Found>> {
    look_at(dir, dir, &CertName::ALL, spec)
}

/// Returns the certificates that a further node has of its own, as they are in a directory of that node;
/// the directory of the cluster, `dir`, has their authorities.
///
/// # Errors
/// As [`survey`].
pub(crate) fn survey_node(dir: &Path, node_dir: &Path, spec: &PkiSpec) -> Result<Vec<Found>> {
    look_at(dir, node_dir, &CertName::of_node(spec.role), spec)
}

fn look_at(dir: &Path, of: &Path, names: &[CertName], spec: &PkiSpec) -> Result<Vec<Found>> {
    let mut all = Vec::new();
    for name in names.iter().copied() {
        let cert = files::look(of, &files::cert(name))?;
        let key = files::look(of, &files::key(name))?;
        let pem = cert.as_deref().and_then(check::decode);
        let authority = match name.authority() {
            Some(authority) => files::look(dir, &files::cert(authority))?,
            None => None,
        };
        let authority = authority.as_deref().and_then(check::decode);
        let fault = match (&cert, &pem, key.as_deref().and_then(parse_key)) {
            (None, ..) => Some("it is missing"),
            (Some(_), None, _) => Some("it is damaged"),
            (Some(_), Some(_), None) => Some("its key is missing or damaged"),
            (Some(cert), Some(pem), Some(key)) => match (name.authority(), &authority) {
                (None, _) => expiry(pem, spec.now, RENEW_AUTHORITY_BEFORE),
                (Some(_), None) => Some("its authority is missing or damaged"),
                (Some(_), Some(authority)) => {
                    check::fault(cert, &key, &name.profile(spec), authority, spec.now)
                }
            },
        };
        let subject = pem.as_ref().and_then(|pem| pem.parse_x509().ok());
        all.push(Found {
            name,
            subject: subject.map_or_else(String::new, |c| c.subject().to_string()),
            ends: pem.as_ref().and_then(check::not_after),
            fault,
        });
    }
    Ok(all)
}

/// Returns the first certificate in a directory that has ended, ends soon or is not valid yet, with
/// the reason. Those that are not there do not count: a saved state has no operator.
///
/// # Errors
/// As [`survey`].
pub(crate) fn expiry_fault(
    dir: &Path,
    now: OffsetDateTime,
) -> Result<Option<(CertName, &'static str)>> {
    for name in CertName::ALL {
        let cert = files::look(dir, &files::cert(name))?;
        let pem = cert.as_deref().and_then(check::decode);
        let fault = pem.and_then(|pem| expiry(&pem, now, check::RENEW_BEFORE));
        if let Some(reason) = fault {
            return Ok(Some((name, reason)));
        }
    }
    Ok(None)
}

fn expiry(pem: &Pem, now: OffsetDateTime, before: time::Duration) -> Option<&'static str> {
    check::untimely(pem.parse_x509().ok()?.validity(), now, before)
}
