//! Whether a certificate that is there is the one that should be.

use rcgen::{ExtendedKeyUsagePurpose as Purpose, KeyPair, PublicKeyData as _};
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::{Validity, X509Certificate};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::{Pem, parse_x509_pem};

use super::names::Profile;

/// Certificates that end sooner than this are renewed, so that a cluster that is started now and
/// then never meets an expired one.
pub(super) const RENEW_BEFORE: Duration = Duration::days(30);

/// The fault of a certificate that begins in the future: it is wrong, or the clock is.
pub(crate) const NOT_YET_VALID: &str = "it is not valid yet";

/// Decodes a PEM text of one certificate.
pub(super) fn decode(pem: &str) -> Option<Pem> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).ok()?;
    pem.parse_x509().ok()?;
    Some(pem)
}

/// Returns the time at which a certificate ends.
pub(super) fn not_after(pem: &Pem) -> Option<OffsetDateTime> {
    Some(pem.parse_x509().ok()?.validity().not_after.to_datetime())
}

/// Returns whether a certificate is for this key.
pub(super) fn is_for_key(certificate: &X509Certificate, key: &KeyPair) -> bool {
    certificate.public_key().subject_public_key.data.as_ref() == key.der_bytes()
}

/// Returns the reason for which a certificate must be renewed; `None` if it is as it should be.
pub(super) fn fault(
    pem: &str,
    key: &KeyPair,
    profile: &Profile,
    authority: &Pem,
    now: OffsetDateTime,
) -> Option<&'static str> {
    let pem = decode(pem);
    let (Some(Ok(certificate)), Ok(authority)) =
        (pem.as_ref().map(Pem::parse_x509), authority.parse_x509())
    else {
        return Some("it is damaged");
    };
    if !is_for_key(&certificate, key) {
        return Some("it is for another key");
    }
    if certificate.issuer() != authority.subject()
        || certificate
            .verify_signature(Some(authority.public_key()))
            .is_err()
    {
        return Some("another authority signed it");
    }
    if !subject_is(&certificate, profile) {
        return Some("its subject is another one");
    }
    if names(&certificate) != profile.sans {
        return Some("it is for other names or addresses");
    }
    if !usage_is(&certificate, profile.usage) {
        return Some("it is for another use");
    }
    untimely(certificate.validity(), now, RENEW_BEFORE)
}

/// Returns the fault of a time of validity; within `before` of its end, it ends soon.
pub(super) fn untimely(
    validity: &Validity,
    now: OffsetDateTime,
    before: Duration,
) -> Option<&'static str> {
    let end = validity.not_after.to_datetime();
    if validity.not_before.to_datetime() > now {
        Some(NOT_YET_VALID)
    } else if end <= now {
        Some("it has ended")
    } else {
        (end - now < before).then_some("it ends soon")
    }
}

fn subject_is(certificate: &X509Certificate, profile: &Profile) -> bool {
    let subject = certificate.subject();
    let common = subject.iter_common_name().map(|a| a.as_str().ok());
    let organization = subject.iter_organization().map(|a| a.as_str().ok());
    common.eq([Some(profile.common_name.as_str())])
        && organization.eq(profile.organization.map(Some))
}

/// Returns the alternative names, in the form and order of [`Profile::sans`].
pub(super) fn names(certificate: &X509Certificate) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let mut names: Vec<String> = extension
        .value
        .general_names
        .iter()
        .map(|name| match name {
            GeneralName::DNSName(name) => (*name).to_owned(),
            GeneralName::IPAddress(bytes) => ip(bytes),
            other => format!("{other:?}"),
        })
        .collect();
    names.sort();
    names
}

fn ip(bytes: &[u8]) -> String {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return std::net::Ipv4Addr::from(v4).to_string();
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(v6) => std::net::Ipv6Addr::from(v6).to_string(),
        Err(_) => format!("{bytes:?}"),
    }
}

fn usage_is(certificate: &X509Certificate, usage: &[Purpose]) -> bool {
    certificate.extended_key_usage().is_ok_and(|extended| {
        extended.is_some_and(|extended| {
            extended.value.client_auth == usage.contains(&Purpose::ClientAuth)
                && extended.value.server_auth == usage.contains(&Purpose::ServerAuth)
        })
    })
}
