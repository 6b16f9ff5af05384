//! The libvirt layer against libvirt's in-memory test driver: no daemon, no QEMU, no privileges.
//!
//! The driver's state is shared by all connections of the process, so every test uses names of
//! its own. It knows the domain type `test` only; what the real definition looks like is the
//! business of the snapshots in `hypervisor::domain_xml`.

use kubby::testing::error::Kind;
use kubby::testing::hypervisor::{
    Change, Foreign, Hypervisor, Identity, Libvirt, Saving, State, foreign, shut_down,
};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use uuid::Uuid;

fn open() -> Libvirt {
    Libvirt::open("test:///default").expect("the test driver always opens")
}

fn domain_xml(name: &str, uuid: Uuid, metadata: &str) -> String {
    format!(
        "<domain type='test'><name>{name}</name><uuid>{uuid}</uuid>\
         <metadata>{metadata}</metadata><memory unit='MiB'>16</memory><vcpu>1</vcpu>\
         <os><type>hvm</type></os></domain>"
    )
}

fn mark(profile: &str, home: &str) -> String {
    format!(
        "<kubby:owner xmlns:kubby='https://kubby.dev/libvirt/1'><kubby:profile>{profile}</kubby:profile>\
         <kubby:home>{home}</kubby:home><kubby:version>0.1.0</kubby:version></kubby:owner>"
    )
}

#[test]
fn a_connection_tells_about_its_host() {
    let libvirt = open();
    assert_eq!(libvirt.uri(), "test:///default");
    let host = libvirt.host().unwrap();
    assert_eq!(host.uri, "test:///default");
    assert!(host.cpus > 0 && host.memory.0 > 0 && host.available_memory.0 > 0);
    assert!(!host.has_kvm());
}

#[test]
fn a_uri_that_leads_nowhere_is_a_preflight_error_with_a_hint() {
    let missing = "qemu+unix:///system?socket=/nonexistent/libvirt-sock";
    for (uri, hint) in [(missing, "libvirtd"), ("nonsense:///", "qemu:///session")] {
        let e = Libvirt::open(uri).unwrap_err();
        assert_eq!(e.kind(), Kind::Preflight, "{e}");
        assert!(e.message().contains(uri), "{e}");
        assert!(
            e.hints()[0].contains(hint),
            "{uri}: {:?} {:?}",
            e.causes(),
            e.hints()
        );
    }
}

#[test]
fn a_domain_lives_from_definition_to_removal() {
    let libvirt = open();
    let name = "lifecycle";
    let uuid = Uuid::new_v4();
    assert_eq!(libvirt.find(name).unwrap(), None);
    libvirt
        .define_xml(name, &domain_xml(name, uuid, &mark("dev", "/home/a")))
        .unwrap();

    let domain = libvirt.find(name).unwrap().unwrap();
    assert_eq!((domain.name.as_str(), domain.uuid), (name, uuid));
    assert_eq!(domain.state, State::ShutOff);
    assert_eq!(domain.owner.unwrap().profile, "dev");

    assert_eq!(libvirt.start(name).unwrap(), Change::Done);
    assert_eq!(libvirt.start(name).unwrap(), Change::Nothing);
    assert_eq!(libvirt.find(name).unwrap().unwrap().state, State::Running);
    let e = libvirt.undefine(name).unwrap_err();
    assert!(e.message().contains("it runs"), "{e}");

    assert_eq!(libvirt.shutdown(name).unwrap(), Change::Done);
    assert_eq!(libvirt.find(name).unwrap().unwrap().state, State::ShutOff);
    assert_eq!(libvirt.shutdown(name).unwrap(), Change::Nothing);
    let off = libvirt.find(name).unwrap().unwrap();
    assert_eq!(off.reason.as_deref(), Some("the guest shut down"));

    libvirt.start(name).unwrap();
    assert!(shut_down(&libvirt, name, Duration::from_secs(5)).unwrap());
    assert!(shut_down(&libvirt, name, Duration::from_secs(5)).unwrap());

    libvirt.start(name).unwrap();
    assert_eq!(libvirt.destroy(name).unwrap(), Change::Done);
    assert_eq!(libvirt.destroy(name).unwrap(), Change::Nothing);
    let off = libvirt.find(name).unwrap().unwrap();
    assert_eq!(off.reason.as_deref(), Some("it was stopped by force"));

    assert_eq!(libvirt.undefine(name).unwrap(), Change::Done);
    assert_eq!(libvirt.undefine(name).unwrap(), Change::Nothing);
    assert_eq!(libvirt.destroy(name).unwrap(), Change::Nothing);
    assert_eq!(libvirt.find(name).unwrap(), None);
}

#[test]
fn a_domain_that_vanishes_during_a_call_is_none() {
    const NAME: &str = "vanishing";
    let (asking, removing) = (open(), open());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let xml = domain_xml(NAME, Uuid::new_v4(), &mark("p", "/home/other"));
                removing.define_xml(NAME, &xml).unwrap();
                removing.undefine(NAME).unwrap();
            }
        });
        let limit = Instant::now() + Duration::from_secs(1);
        let (mut there, mut gone) = (0, 0);
        while Instant::now() < limit {
            let look = || -> kubby::testing::error::Result<bool> {
                asking.list_owned()?;
                Ok(asking.find(NAME)?.is_some() | asking.root_disk(NAME)?.is_some())
            };
            let found = look().inspect_err(|_| stop.store(true, Ordering::Relaxed));
            *if found.unwrap() {
                &mut there
            } else {
                &mut gone
            } += 1;
        }
        stop.store(true, Ordering::Relaxed);
        assert!(there > 10 && gone > 10, "{there} {gone}");
    });
}

#[test]
fn what_is_not_there_cannot_be_started_or_shut_down() {
    let libvirt = open();
    for result in [libvirt.start("nobody"), libvirt.shutdown("nobody")] {
        let e = result.unwrap_err();
        assert_eq!(e.kind(), Kind::Hypervisor);
        assert!(e.message().contains("there is no domain nobody"), "{e}");
    }
}

#[test]
fn a_definition_is_replaced_but_never_another_ones() {
    let libvirt = open();
    let name = "taken";
    let uuid = Uuid::new_v4();
    libvirt
        .define_xml(name, &domain_xml(name, uuid, &mark("one", "/home/a")))
        .unwrap();
    libvirt
        .define_xml(name, &domain_xml(name, uuid, &mark("two", "/home/a")))
        .unwrap();
    assert_eq!(
        libvirt.find(name).unwrap().unwrap().owner.unwrap().profile,
        "two"
    );
    let e = libvirt
        .define_xml(name, &domain_xml(name, Uuid::new_v4(), ""))
        .unwrap_err();
    assert!(e.message().contains("taken"), "{e}");
    assert!(
        e.hints()[0].contains("virsh list --all"),
        "{:?} {:?}",
        e.causes(),
        e.hints()
    );
    libvirt.undefine(name).unwrap();
}

#[test]
fn foreign_domains_are_detected_and_not_listed() {
    let libvirt = open();
    let uuid = Uuid::new_v4();
    libvirt
        .define_xml("own", &domain_xml("own", uuid, &mark("p", "/home/own")))
        .unwrap();
    libvirt
        .define_xml("plain", &domain_xml("plain", Uuid::new_v4(), ""))
        .unwrap();
    let other = "<x:owner xmlns:x='https://example.org/'><x:profile>p</x:profile></x:owner>";
    libvirt
        .define_xml("odd", &domain_xml("odd", Uuid::new_v4(), other))
        .unwrap();

    let names: Vec<_> = libvirt
        .list_owned()
        .unwrap()
        .into_iter()
        .map(|d| d.name)
        .collect();
    assert!(names.contains(&"own".to_owned()), "{names:?}");
    assert!(
        !names
            .iter()
            .any(|n| n == "plain" || n == "odd" || n == "test"),
        "{names:?}"
    );

    let me = Identity {
        uuid: Some(uuid),
        profile: "p".into(),
        home: "/home/own".into(),
    };
    let judge = |name: &str| foreign(&libvirt.find(name).unwrap().unwrap(), &me);
    assert_eq!(judge("own"), None);
    assert_eq!(libvirt.find("gone").unwrap(), None);
    assert_eq!(judge("plain"), Some(Foreign::Unmarked));
    assert_eq!(judge("odd"), Some(Foreign::Unmarked));
    // A domain that the driver brings along.
    assert_eq!(judge("test"), Some(Foreign::Unmarked));
    for name in ["own", "plain", "odd"] {
        libvirt.undefine(name).unwrap();
    }
}

#[test]
fn a_pool_is_made_once_and_not_moved() {
    let libvirt = open();
    let target = Path::new("/nonexistent/kubby-pool");
    assert_eq!(libvirt.find_pool("made-once").unwrap(), None);
    assert_eq!(
        libvirt.ensure_pool("made-once", target).unwrap(),
        Change::Done
    );
    let found = libvirt.find_pool("made-once").unwrap().unwrap();
    assert!(found.active && found.target == target, "{found:?}");
    assert_eq!(
        libvirt.ensure_pool("made-once", target).unwrap(),
        Change::Nothing
    );
    let slash = Path::new("/nonexistent/kubby-pool/");
    assert_eq!(
        libvirt.ensure_pool("made-once", slash).unwrap(),
        Change::Nothing
    );
    let e = libvirt
        .ensure_pool("made-once", Path::new("/elsewhere"))
        .unwrap_err();
    assert!(
        e.message()
            .contains("/nonexistent/kubby-pool, not in /elsewhere"),
        "{e}"
    );
    assert_eq!(e.kind(), Kind::State);
    assert!(e.hints()[0].contains("KUBBY_HOME"), "{:?}", e.hints());
    libvirt.refresh_pool("made-once").unwrap();
    assert!(libvirt.pool_available_bytes("made-once").unwrap() > 0);
    assert!(libvirt.remove_pool("made-once").unwrap());
    assert!(libvirt.remove_pool("made-once").unwrap());
    assert!(
        libvirt
            .refresh_pool("made-once")
            .unwrap_err()
            .message()
            .contains("no storage pool")
    );
}

#[test]
fn a_failed_upload_or_overlay_leaves_nothing_behind() {
    let libvirt = open();
    // The driver cannot take the bytes of an upload, so every upload to it fails half-way.
    let pool = "half-way";
    libvirt
        .ensure_pool(pool, Path::new("/nonexistent/half-way"))
        .unwrap();
    assert_eq!(libvirt.list_volumes(pool).unwrap(), []);
    let e = libvirt
        .create_overlay(pool, "node", "base", 1 << 30)
        .unwrap_err();
    assert!(e.message().contains("over base"), "{e}");
    let e = libvirt.upload_bytes(pool, "base", b"content").unwrap_err();
    assert!(e.message().contains("upload the volume base"), "{e}");
    assert_eq!(
        libvirt.list_volumes(pool).unwrap(),
        [],
        "a failed upload left something"
    );
    assert_eq!(
        libvirt.delete_volume(pool, "base").unwrap(),
        Change::Nothing
    );
    assert_eq!(
        libvirt.delete_volume("no-such-pool", "base").unwrap(),
        Change::Nothing
    );
    assert_eq!(libvirt.list_volumes("no-such-pool").unwrap(), []);
    assert!(libvirt.remove_pool(pool).unwrap());
}
