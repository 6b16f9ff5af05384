//! Making keys and certificates.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use super::names::Profile;
use crate::error::{Error, Kind, Result, ResultExt as _};

/// The time by which certificates begin in the past, for clocks that are behind.
const SKEW: Duration = Duration::hours(1);
/// The life of an authority.
const CA_LIFE: Duration = Duration::days(3650);
/// The life of all other certificates.
pub(super) const LEAF_LIFE: Duration = Duration::days(365);

/// Returns a new ECDSA P-256 key.
pub(super) fn new_key() -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
        .context(Kind::Internal, || "cannot make a private key".into())
}

/// Returns an authority's certificate for its key.
pub(super) fn authority(profile: &Profile, key: &KeyPair, now: OffsetDateTime) -> Result<String> {
    let mut params = params(profile, now - SKEW, now + CA_LIFE)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    pem(profile, params.self_signed(key))
}

/// Returns a certificate for a key, signed by an authority, which it does not outlive.
pub(super) fn leaf(
    profile: &Profile,
    key: &KeyPair,
    issuer: &Issuer<'_, KeyPair>,
    issuer_end: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<String> {
    let mut params = params(profile, now - SKEW, (now + LEAF_LIFE).min(issuer_end))?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = profile.usage.to_vec();
    params.use_authority_key_identifier_extension = true;
    pem(profile, params.signed_by(key, issuer))
}

fn params(
    profile: &Profile,
    begin: OffsetDateTime,
    end: OffsetDateTime,
) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(profile.sans.clone()).map_err(|e| {
        let names = profile.sans.join(", ");
        Error::usage(format!(
            "cannot put these names into a certificate: {names}"
        ))
        .with_source(e)
        .with_hint("names in certificates must be IP addresses or DNS names in ASCII")
    })?;
    let mut subject = DistinguishedName::new();
    if let Some(organization) = profile.organization {
        subject.push(DnType::OrganizationName, organization);
    }
    subject.push(DnType::CommonName, profile.common_name.as_str());
    params.distinguished_name = subject;
    params.not_before = begin;
    params.not_after = end;
    params.serial_number = Some(random_serial());
    Ok(params)
}

/// Returns 120 random bits; the first byte makes the number positive and its length fixed.
fn random_serial() -> SerialNumber {
    let mut bytes = *uuid::Uuid::new_v4().as_bytes();
    bytes[0] = bytes[0] & 0x3f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn pem(profile: &Profile, made: Result<Certificate, rcgen::Error>) -> Result<String> {
    let certificate = made.context(Kind::Internal, || {
        format!("cannot sign `{}`", profile.common_name)
    })?;
    Ok(certificate.pem())
}
