//! Certificates as time passes, forwards and back.

use super::*;

fn at(now: OffsetDateTime) -> PkiSpec {
    PkiSpec { now, ..spec() }
}

fn leaves() -> Vec<CertName> {
    let all = CertName::ALL.into_iter();
    all.filter(|n| n.authority().is_some()).collect()
}

fn authorities() -> Vec<CertName> {
    let all = CertName::ALL.into_iter();
    all.filter(|n| n.authority().is_none()).collect()
}

fn reasons(pki: &Pki) -> Vec<&'static str> {
    let mut reasons: Vec<&str> = pki.renewed().iter().map(|r| r.reason).collect();
    reasons.dedup();
    reasons
}

/// Every certificate was signed by the key of its authority, and both are valid then.
fn assert_valid(pki: &Pki, now: OffsetDateTime) {
    for name in CertName::ALL {
        let authority = check::decode(pki.cert(name.authority().unwrap_or(name))).unwrap();
        let authority = authority.parse_x509().unwrap();
        with(pki, name, |c| {
            c.verify_signature(Some(authority.public_key())).unwrap();
            assert_eq!(check::untimely(c.validity(), now, Duration::ZERO), None);
            assert!(c.validity().not_after <= authority.validity().not_after);
        });
    }
}

#[test]
fn leaves_are_renewed_in_time_and_after_their_time() {
    for (days, reason) in [
        (340, "it ends soon"),
        (366, "it has ended"),
        (800, "it has ended"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let first = ensure(dir.path(), &spec()).unwrap();
        assert_eq!(first.renewed(), [], "what was not there is not renewed");
        let later = at(spec().now + Duration::days(days));
        let second = ensure(dir.path(), &later).unwrap();
        assert_eq!(second.changed(), leaves());
        assert_eq!(reasons(&second), [reason]);
        assert_valid(&second, later.now);
        for name in CertName::ALL {
            assert_eq!(first.key(name), second.key(name), "{name:?} keeps its key");
        }
    }
}

#[test]
fn authorities_are_renewed_with_their_keys_while_what_they_sign_lasts() {
    for (days, renewed) in [(3254, false), (3256, true), (3700, true), (9000, true)] {
        let dir = tempfile::tempdir().unwrap();
        let first = ensure(dir.path(), &spec()).unwrap();
        let later = at(spec().now + Duration::days(days));
        let second = ensure(dir.path(), &later).unwrap();
        assert_valid(&second, later.now);
        for name in authorities() {
            assert_eq!(first.cert(name) != second.cert(name), renewed, "{days}");
            assert_eq!(first.key(name), second.key(name));
            assert_eq!(key_id(&first, name), key_id(&second, name));
            assert_eq!(second.changed().contains(&name), renewed);
        }
        assert!(second.first_to_expire().unwrap().1 >= later.now + Duration::days(365));
        assert_eq!(ensure(dir.path(), &later).unwrap().changed(), []);
        if renewed {
            continue;
        }
        // What the earlier one signed is valid under the renewed one: nothing else changes.
        let soon = at(later.now + Duration::days(2));
        let third = ensure(dir.path(), &soon).unwrap();
        assert_eq!(third.changed(), authorities());
        assert_valid(&third, soon.now);
    }
}

fn key_id(pki: &Pki, name: CertName) -> Vec<u8> {
    with(pki, name, |c| {
        let all = c.extensions().iter();
        let id = all.filter(|e| e.oid.to_id_string() == "2.5.29.14");
        id.map(|e| e.value.to_vec()).next().unwrap()
    })
}

#[test]
fn a_clock_that_was_wrong_is_made_up_for() {
    let dir = tempfile::tempdir().unwrap();
    let first = ensure(dir.path(), &spec()).unwrap();
    for moved in [-20_000, 0, 20_000, 0] {
        let then = at(spec().now + Duration::days(moved));
        let pki = ensure(dir.path(), &then).unwrap();
        assert_valid(&pki, then.now);
        for name in CertName::ALL {
            assert_eq!(first.key(name), pki.key(name), "{name:?} keeps its key");
        }
        if moved < 0 {
            assert_eq!(reasons(&pki), [NOT_YET_VALID]);
        }
    }
}

#[test]
fn what_is_renewed_by_name_gets_another_key_and_the_rest_stays() {
    use CertName::*;
    for (names, changed) in [
        (vec![Apiserver, EtcdPeer], vec![Apiserver, EtcdPeer]),
        (vec![Ca], vec![Ca]),
        (vec![OperatorCa], vec![OperatorCa, Admin]),
        (leaves(), leaves()),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let first = ensure(dir.path(), &spec()).unwrap();
        let later = at(spec().now + Duration::days(1));
        let second = renew(dir.path(), &later, &names).unwrap();
        assert_eq!(second.changed(), changed);
        assert_valid(&second, later.now);
        for name in CertName::ALL {
            let is_new = changed.contains(&name);
            assert_eq!(first.cert(name) != second.cert(name), is_new, "{name:?}");
            let other_key = is_new && name != Ca;
            assert_eq!(first.key(name) != second.key(name), other_key, "{name:?}");
        }
        assert_eq!(ensure(dir.path(), &later).unwrap().changed(), []);
    }
}

#[test]
fn nothing_is_taken_away_where_an_authority_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    ensure(dir.path(), &spec()).unwrap();
    fs::remove_file(dir.path().join("etcd/ca.key")).unwrap();
    let error = renew(dir.path(), &spec(), &[CertName::Admin, CertName::EtcdCa]).unwrap_err();
    assert_eq!(error.kind(), Kind::State);
    assert!(dir.path().join("admin.crt").exists());
    assert!(dir.path().join("etcd/ca.crt").exists());
}

#[test]
fn the_survey_shows_what_the_next_start_renews() {
    let dir = tempfile::tempdir().unwrap();
    let pki = ensure(dir.path(), &spec()).unwrap();
    let good = survey(dir.path(), &spec()).unwrap();
    assert_eq!(good.iter().filter_map(|f| f.fault).count(), 0);
    let ends: Vec<_> = good.iter().map(|f| (f.name, f.ends.unwrap())).collect();
    assert_eq!(ends, pki.expiry().collect::<Vec<_>>());
    fs::remove_file(dir.path().join("scheduler.crt")).unwrap();
    fs::remove_file(dir.path().join("kube-proxy.key")).unwrap();
    fs::write(dir.path().join("admin.crt"), "nonsense").unwrap();
    for days in [0, 340, 366, 3300, -1] {
        let then = at(spec().now + Duration::days(days));
        let due = survey(dir.path(), &then).unwrap();
        let due: Vec<CertName> = due
            .iter()
            .filter(|f| f.fault.is_some())
            .map(|f| f.name)
            .collect();
        let expiry = expiry_fault(dir.path(), then.now).unwrap();
        assert_eq!(expiry.is_some(), days != 0, "{days}: {expiry:?}");
        let copy = tempfile::tempdir().unwrap();
        fsutil::copy_private(dir.path(), &copy.path().join("pki")).unwrap();
        let renewed = ensure(&copy.path().join("pki"), &then).unwrap();
        assert_eq!(due, renewed.changed(), "{days}");
    }
}
