//! The content of the directory after each kind of start.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use time::macros::datetime;
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;

use super::*;
use crate::error::Kind;
use crate::fsutil;
use crate::network::Cidr;

mod chains;
mod renewal;

fn spec() -> PkiSpec {
    PkiSpec::of_first_node(datetime!(2030-01-31 12:00 UTC))
}

fn with<T>(pki: &Pki, name: CertName, see: impl FnOnce(&X509Certificate) -> T) -> T {
    let pem = check::decode(pki.cert(name)).unwrap();
    see(&pem.parse_x509().unwrap())
}

#[test]
fn certificates_say_what_kubernetes_expects() {
    let dir = tempfile::tempdir().unwrap();
    let pki = ensure(dir.path(), &spec()).unwrap();
    let mut text = String::new();
    for name in CertName::ALL {
        with(&pki, name, |c| {
            let extended = c.extended_key_usage().unwrap();
            let uses = extended.map_or(String::new(), |e| {
                format!(
                    "{}{}",
                    if e.value.client_auth { " client" } else { "" },
                    if e.value.server_auth { " server" } else { "" }
                )
            });
            text += &format!(
                "{}: {} < {}{uses} {:?}\n",
                name.stem(),
                c.subject(),
                c.issuer(),
                check::names(c).join(" ")
            );
        });
    }
    assert_eq!(
        text,
        r#"ca: CN=kubernetes < CN=kubernetes ""
front-proxy-ca: CN=front-proxy-ca < CN=front-proxy-ca ""
etcd/ca: CN=etcd-ca < CN=etcd-ca ""
operator-ca: CN=kubby-operator-ca < CN=kubby-operator-ca ""
apiserver: CN=kube-apiserver < CN=kubernetes server "10.245.0.1 10.96.0.1 127.0.0.1 ::1 kubby kubernetes kubernetes.default kubernetes.default.svc kubernetes.default.svc.cluster.local localhost"
apiserver-kubelet-client: O=system:masters, CN=kube-apiserver-kubelet-client < CN=kubernetes client ""
apiserver-etcd-client: CN=kube-apiserver-etcd-client < CN=etcd-ca client ""
front-proxy-client: CN=front-proxy-client < CN=front-proxy-ca client ""
etcd/server: CN=kubby < CN=etcd-ca client server "10.245.0.1 127.0.0.1 ::1 kubby localhost"
etcd/peer: CN=kubby < CN=etcd-ca client server "10.245.0.1 127.0.0.1 ::1 kubby localhost"
admin: O=system:masters, CN=kubernetes-admin < CN=kubby-operator-ca client ""
controller-manager: CN=system:kube-controller-manager < CN=kubernetes client ""
controller-manager-serving: CN=kube-controller-manager < CN=kubernetes server "127.0.0.1 ::1 localhost"
scheduler: CN=system:kube-scheduler < CN=kubernetes client ""
scheduler-serving: CN=kube-scheduler < CN=kubernetes server "127.0.0.1 ::1 localhost"
kube-proxy: CN=system:kube-proxy < CN=kubernetes client ""
kubelet-client: O=system:nodes, CN=system:node:kubby < CN=kubernetes client ""
kubelet-serving: O=system:nodes, CN=system:node:kubby < CN=kubernetes server "10.245.0.1 127.0.0.1 ::1 kubby localhost"
"#
    );
}

#[test]
fn extensions_and_validity_are_right() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, pki) = (spec(), ensure(dir.path(), &spec()).unwrap());
    let mut serials = Vec::new();
    for name in CertName::ALL {
        with(&pki, name, |c| {
            serials.push(c.raw_serial().to_vec());
            let constraints = c.basic_constraints().unwrap().expect("basic constraints");
            let usage = c.key_usage().unwrap().expect("key usage");
            assert!(constraints.critical && usage.critical);
            assert!(usage.value.digital_signature());
            let validity = c.validity();
            assert_eq!(
                validity.not_before.to_datetime(),
                spec.now - Duration::hours(1)
            );
            let life = validity.not_after.to_datetime() - spec.now;
            let ids: Vec<String> = c
                .extensions()
                .iter()
                .map(|e| e.oid.to_id_string())
                .collect();
            assert!(
                ids.contains(&"2.5.29.14".into()),
                "{name:?} has a subject key identifier"
            );
            let ca = name.authority().is_none();
            assert_eq!(constraints.value.ca, ca);
            assert_eq!(usage.value.key_cert_sign(), ca);
            assert_eq!(
                ids.contains(&"2.5.29.35".into()),
                !ca,
                "{name:?}: authority key id"
            );
            assert_eq!(life, Duration::days(if ca { 3650 } else { 365 }));
        });
    }
    let count = serials.len();
    assert!(serials.iter().all(|s| s.len() == 16 && s[0] & 0x80 == 0));
    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), count);
    assert_eq!(
        pki.first_to_expire().unwrap().1,
        spec.now + Duration::days(365)
    );
    assert_eq!(pki.expiry().count(), CertName::ALL.len());
}

#[test]
fn loading_leaves_modes_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    ensure(dir.path(), &spec()).unwrap();
    let key = dir.path().join("ca.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    load(dir.path()).unwrap();
    let mode = fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
}

#[test]
fn a_second_run_changes_nothing_and_files_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki");
    let first = ensure(&pki, &spec()).unwrap();
    assert_eq!(first.changed(), CertName::ALL);
    fs::set_permissions(pki.join("ca.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let second = ensure(&pki, &spec()).unwrap();
    assert_eq!(second.changed(), []);
    let loaded = load(&pki).unwrap();
    for name in CertName::ALL {
        assert_eq!(first.cert(name), second.cert(name));
        assert_eq!(first.key(name), second.key(name));
        assert_eq!(first.cert(name), loaded.cert(name));
    }
    assert_eq!(&first.service_account_key, &loaded.service_account_key);
    let mut files = 0;
    for dir in [pki.clone(), pki.join("etcd")] {
        assert_eq!(
            fs::metadata(&dir).unwrap().permissions().mode() & 0o777,
            0o700
        );
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                files += 1;
                assert_eq!(
                    entry.metadata().unwrap().permissions().mode() & 0o777,
                    0o600
                );
            }
        }
    }
    assert_eq!(files, 2 * CertName::ALL.len() + 2);
    assert!(!format!("{first:?}").contains("PRIVATE"));
}

#[test]
fn only_what_no_longer_fits_is_renewed() {
    use CertName::*;
    let with_names = [Apiserver, EtcdServer, EtcdPeer, KubeletServing];
    let all_leaves: Vec<CertName> = CertName::ALL
        .into_iter()
        .filter(|n| n.authority().is_some())
        .collect();
    type Change = fn(&mut PkiSpec);
    let cases: [(Change, Vec<CertName>); 5] = [
        (
            |s| s.network.services = Cidr::new(Ipv4Addr::new(10, 97, 0, 0), 16),
            vec![Apiserver],
        ),
        (
            |s| s.node.ip = "10.0.2.16".parse().unwrap(),
            with_names.to_vec(),
        ),
        (
            |s| s.node.name = "other".into(),
            CertName::ALL
                .into_iter()
                .filter(|n| n.is_of_node())
                .collect(),
        ),
        (|s| s.now += Duration::days(330), vec![]),
        (|s| s.now += Duration::days(336), all_leaves),
    ];
    for (change, renewed) in cases {
        let dir = tempfile::tempdir().unwrap();
        let first = ensure(dir.path(), &spec()).unwrap();
        let mut spec = spec();
        change(&mut spec);
        let second = ensure(dir.path(), &spec).unwrap();
        assert_eq!(second.changed(), renewed);
        for name in CertName::ALL {
            assert_eq!(
                first.cert(name) != second.cert(name),
                renewed.contains(&name)
            );
        }
        assert_eq!(ensure(dir.path(), &spec).unwrap().changed(), []);
    }
}

#[test]
fn lost_or_damaged_leaves_are_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let first = ensure(dir.path(), &spec()).unwrap();
    let path = |file: &str| dir.path().join(file);
    fs::remove_file(path("admin.crt")).unwrap();
    fs::remove_file(path("apiserver.key")).unwrap();
    fs::write(path("scheduler.crt"), "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
    fs::write(path("kube-proxy.key"), b"\xff\xfe").unwrap();
    fs::copy(path("etcd/server.crt"), path("etcd/peer.crt")).unwrap();
    fs::copy(
        path("controller-manager.crt"),
        path("front-proxy-client.crt"),
    )
    .unwrap();
    fs::copy(
        path("controller-manager.key"),
        path("front-proxy-client.key"),
    )
    .unwrap();
    fs::remove_file(path("sa.pub")).unwrap();
    let second = ensure(dir.path(), &spec()).unwrap();
    use CertName::*;
    assert_eq!(
        second.changed(),
        [
            Apiserver,
            FrontProxyClient,
            EtcdPeer,
            Admin,
            Scheduler,
            KubeProxy
        ]
    );
    assert_eq!(second.key(Admin), first.key(Admin), "a good key is kept");
    assert_eq!(&second.service_account_pub, &first.service_account_pub);
    assert!(ensure(dir.path(), &spec()).unwrap().changed().is_empty());
}

#[test]
fn a_lost_authority_is_an_error_and_never_a_new_one() {
    for (file, damage) in [
        ("ca.key", None),
        ("ca.key", Some("")),
        (
            "front-proxy-ca.key",
            Some("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
        ),
        ("etcd/ca.key", None),
        ("sa.key", None),
        ("sa.key", Some("nonsense")),
    ] {
        let dir = tempfile::tempdir().unwrap();
        ensure(dir.path(), &spec()).unwrap();
        let path = dir.path().join(file);
        match damage {
            None => fs::remove_file(&path).unwrap(),
            Some(text) => fs::write(&path, text).unwrap(),
        }
        let before = fs::read_to_string(dir.path().join("apiserver.crt")).unwrap();
        for _ in 0..2 {
            let error = ensure(dir.path(), &spec()).unwrap_err();
            assert_eq!(error.kind(), Kind::State);
            assert!(error.message().contains(file), "{error}");
            assert!(!error.hints().is_empty());
        }
        assert_eq!(
            fs::read_to_string(dir.path().join("apiserver.crt")).unwrap(),
            before
        );
        assert_eq!(fs::read_to_string(&path).ok().as_deref(), damage);
    }
    // Both files gone, but certificates that the authority signed are there.
    let dir = tempfile::tempdir().unwrap();
    ensure(dir.path(), &spec()).unwrap();
    for file in ["ca.key", "ca.crt"] {
        fs::remove_file(dir.path().join(file)).unwrap();
    }
    assert_eq!(ensure(dir.path(), &spec()).unwrap_err().kind(), Kind::State);
    // A certificate of another cluster's authority.
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    ensure(one.path(), &spec()).unwrap();
    ensure(two.path(), &spec()).unwrap();
    fs::copy(two.path().join("ca.crt"), one.path().join("ca.crt")).unwrap();
    assert!(
        ensure(one.path(), &spec())
            .unwrap_err()
            .message()
            .contains("ca.crt")
    );
}

#[test]
fn a_first_run_that_was_cut_short_is_completed() {
    let whole = tempfile::tempdir().unwrap();
    let pki = ensure(whole.path(), &spec()).unwrap();
    // The order of writing: each prefix of it is what a crash may leave.
    let mut order: Vec<(String, &str)> = Vec::new();
    for name in CertName::ALL {
        if name == CertName::Apiserver {
            order.push(("sa.key".into(), &*pki.service_account_key));
            order.push(("sa.pub".into(), &*pki.service_account_pub));
        }
        order.push((files::key(name), pki.key(name)));
        order.push((files::cert(name), pki.cert(name)));
    }
    for count in 0..order.len() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etcd")).unwrap();
        for (file, text) in &order[..count] {
            fs::write(dir.path().join(file), text).unwrap();
        }
        let completed = ensure(dir.path(), &spec()).unwrap();
        assert!(!completed.changed().is_empty());
        for (file, text) in &order[..count] {
            assert_eq!(
                &fs::read_to_string(dir.path().join(file)).unwrap(),
                text,
                "{file}"
            );
        }
    }
}

#[test]
fn names_that_fit_no_certificate_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut spec = spec();
    spec.node.name = "zürich".into();
    let error = ensure(dir.path(), &spec).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.message().contains("zürich"), "{error}");
    assert_eq!(load(dir.path()).unwrap_err().kind(), Kind::State);
}

#[test]
fn a_copy_gets_another_operator_and_nothing_else_new() {
    let dir = tempfile::tempdir().unwrap();
    let first = ensure(dir.path(), &spec()).unwrap();
    forget_operator(dir.path()).unwrap();
    forget_operator(dir.path()).unwrap();
    let second = ensure(dir.path(), &spec()).unwrap();
    assert_eq!(second.changed(), [CertName::OperatorCa, CertName::Admin]);
    assert_ne!(
        second.cert(CertName::OperatorCa),
        first.cert(CertName::OperatorCa)
    );
    assert_ne!(second.key(CertName::Admin), first.key(CertName::Admin));
    assert_eq!(second.cert(CertName::Ca), first.cert(CertName::Ca));
}

#[test]
fn a_cluster_from_before_there_was_an_operator_gets_one() {
    let dir = tempfile::tempdir().unwrap();
    ensure(dir.path(), &spec()).unwrap();
    for file in ["operator-ca.crt", "operator-ca.key"] {
        fs::remove_file(dir.path().join(file)).unwrap();
    }
    let pki = ensure(dir.path(), &spec()).unwrap();
    assert_eq!(pki.changed(), [CertName::OperatorCa, CertName::Admin]);
}
