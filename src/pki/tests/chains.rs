//! Single certificates: every reason to renew one, and what OpenSSL thinks of them.

use std::process::Command;

use rcgen::{Issuer, KeyPair};

use super::*;

#[test]
fn each_fault_is_found() {
    let spec = spec();
    let now = spec.now;
    let authority_of = |name: CertName| {
        let key = issue::new_key().unwrap();
        let pem = issue::authority(&name.profile(&spec), &key, now).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&pem, key).unwrap();
        (issuer, check::decode(&pem).unwrap())
    };
    let (issuer, ca) = authority_of(CertName::Ca);
    // The same name, but another key: only the signature differs.
    let (impostor, _) = authority_of(CertName::Ca);
    let (other, _) = authority_of(CertName::EtcdCa);
    let key = issue::new_key().unwrap();
    let right = CertName::Apiserver.profile(&spec);
    let end = now + Duration::days(3650);
    let leaf = |profile: &names::Profile, key: &KeyPair, issuer, now| {
        issue::leaf(profile, key, issuer, end, now).unwrap()
    };
    let fault = |pem: &str| check::fault(pem, &key, &right, &ca, now);
    let but = |change: fn(&mut names::Profile)| {
        let mut profile = right.clone();
        change(&mut profile);
        leaf(&profile, &key, &issuer, now)
    };
    assert_eq!(fault(&leaf(&right, &key, &issuer, now)), None);
    for (pem, why) in [
        (String::new(), "damaged"),
        (
            leaf(&right, &issue::new_key().unwrap(), &issuer, now),
            "another key",
        ),
        (leaf(&right, &key, &impostor, now), "another authority"),
        (leaf(&right, &key, &other, now), "another authority"),
        (but(|p| p.common_name = "x".into()), "subject"),
        (but(|p| p.organization = Some("system:masters")), "subject"),
        (but(|p| drop(p.sans.pop())), "names"),
        (but(|p| p.usage = names::CLIENT), "another use"),
        (but(|p| p.usage = names::BOTH), "another use"),
        (
            leaf(&right, &key, &issuer, now + Duration::hours(2)),
            "not valid yet",
        ),
        (
            leaf(&right, &key, &issuer, now - Duration::days(336)),
            "ends soon",
        ),
    ] {
        assert!(
            fault(&pem).is_some_and(|found| found.contains(why)),
            "{why}: {:?}",
            fault(&pem)
        );
    }
}

/// Runs OpenSSL in a folder, and returns whether it succeeded and all that it printed.
fn openssl(dir: &Path, args: &[&str]) -> (bool, String) {
    let output = Command::new("openssl")
        .args(args)
        .current_dir(dir)
        .output()
        .expect("openssl is installed: apt-get install openssl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[test]
fn openssl_accepts_every_chain_for_its_purpose() {
    let dir = tempfile::tempdir().unwrap();
    let spec = PkiSpec {
        now: OffsetDateTime::now_utc(),
        ..spec()
    };
    ensure(dir.path(), &spec).unwrap();
    let openssl = |args: &[&str]| openssl(dir.path(), args);
    for name in CertName::ALL {
        let Some(authority) = name.authority() else {
            continue;
        };
        let (ca, cert) = (files::cert(authority), files::cert(name));
        let usage = name.profile(&spec).usage;
        for (purpose, fits) in [
            ("sslclient", usage != names::SERVER),
            ("sslserver", usage != names::CLIENT),
        ] {
            let strict = ["verify", "-x509_strict", "-CAfile", &ca];
            let args = [&strict[..], &["-purpose", purpose, &cert]].concat();
            let (ok, text) = openssl(&args);
            assert_eq!(ok, fits, "{args:?}: {text}");
        }
        let wrong = if authority == CertName::Ca {
            CertName::EtcdCa
        } else {
            CertName::Ca
        };
        assert!(!openssl(&["verify", "-CAfile", &files::cert(wrong), &cert]).0);
    }
    let serves = |option, value| {
        openssl(&[
            "verify",
            "-CAfile",
            "ca.crt",
            option,
            value,
            "apiserver.crt",
        ])
        .0
    };
    for host in ["kubernetes.default.svc", "localhost", "kubby"] {
        assert!(serves("-verify_hostname", host), "{host}");
    }
    for ip in ["127.0.0.1", "::1", "10.245.0.1", "10.96.0.1"] {
        assert!(serves("-verify_ip", ip), "{ip}");
    }
    let (ok, public) = openssl(&["pkey", "-in", "sa.key", "-pubout"]);
    assert!(ok && public == fs::read_to_string(dir.path().join("sa.pub")).unwrap());
}
