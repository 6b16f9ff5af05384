use super::*;
use std::fs;
use std::os::unix::fs::FileExt as _;

use crate::hypervisor::Version;

fn host() -> HostMark {
    HostMark {
        qemu: "10.0.2".into(),
        libvirt: "9.0.0".into(),
        cpu: "abc".into(),
    }
}

/// A saved state of a pool with small files.
pub(crate) fn example(pool: &Path) -> Saved {
    let [pages, devices] = file_names("0123456789ab").map(|name| pool.join(name));
    let disk = pool.join("kubby.disk-1.qcow2");
    fs::write(&pages, vec![7; 3 * 4096]).unwrap();
    fs::write(&devices, "devices").unwrap();
    fs::write(&disk, "disk").unwrap();
    let stamp = |path: &Path| Stamp::of(path).unwrap();
    let profile = crate::profile::example();
    Saved {
        format: FORMAT,
        id: "0123456789ab".into(),
        created: 1_700_000_000,
        host: host(),
        memory: Some(Memory {
            offset: 4096,
            length: 2 * 4096,
            stamp: stamp(&pages),
            digest: Some(digest_pages(&pages).unwrap()),
            devices_stamp: stamp(&devices),
            devices_digest: Some(digest_pages(&devices).unwrap()),
            allocated: 16384,
        }),
        disk: "kubby.disk-1.qcow2".into(),
        disk_stamp: stamp(&disk),
        profile,
    }
}

#[test]
fn a_manifest_survives_the_disk() {
    let tmp = tempfile::tempdir().unwrap();
    let saved = example(tmp.path());
    let dir = SavedDir::at(tmp.path().join("state"));
    assert_eq!(dir.load().unwrap(), None);
    fsutil::create_private_dir(&dir.root).unwrap();
    assert_eq!(dir.load().unwrap(), None, "half-made is not there");
    dir.save(&saved).unwrap();
    assert_eq!(dir.load().unwrap(), Some(saved));
}

#[test]
fn a_manifest_that_is_damaged_or_of_another_version_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = SavedDir::at(tmp.path().to_owned());
    dir.save(&example(tmp.path())).unwrap();
    let path = tmp.path().join(MANIFEST);
    let text = fs::read_to_string(&path).unwrap();
    for (changed, words) in [
        (
            text.replace("\"format\": 1", "\"format\": 2"),
            "another kubby",
        ),
        (text.replace("\"id\"", "\"di\""), "damaged"),
        (text[..100].to_owned(), "damaged"),
        (String::new(), "damaged"),
    ] {
        fs::write(&path, changed).unwrap();
        let e = dir.load().unwrap_err();
        assert_eq!(e.kind(), Kind::State);
        assert!(e.message().contains(words), "{e}");
    }
}

#[test]
fn files_that_were_cut_changed_or_removed_are_told() {
    type Damage = fn(&Path, &Path);
    let damages: [(Damage, &str); 5] = [
        (|pages, _| fs::remove_file(pages).unwrap(), "is missing"),
        (
            |pages, _| {
                fs::File::options()
                    .write(true)
                    .open(pages)
                    .unwrap()
                    .set_len(5)
                    .unwrap()
            },
            "is cut",
        ),
        (
            |pages, _| {
                let file = fs::File::options().write(true).open(pages).unwrap();
                file.write_all_at(b"x", 5000).unwrap();
            },
            "was changed",
        ),
        (
            |_, disk| fs::write(disk, "more disk").unwrap(),
            "was changed",
        ),
        (|_, disk| fs::remove_file(disk).unwrap(), "is missing"),
    ];
    for (damage, words) in damages {
        let tmp = tempfile::tempdir().unwrap();
        let saved = example(tmp.path());
        saved.check(tmp.path()).unwrap();
        let [pages, _] = saved.files(tmp.path());
        damage(&pages, &tmp.path().join(&saved.disk));
        let e = saved.check(tmp.path()).unwrap_err();
        assert!(e.message().contains(words), "{e}");
    }
}

#[test]
fn a_file_that_was_only_touched_is_read_and_found_the_same() {
    let tmp = tempfile::tempdir().unwrap();
    let saved = example(tmp.path());
    let [pages, _] = saved.files(tmp.path());
    let copy = fs::read(&pages).unwrap();
    fs::remove_file(&pages).unwrap();
    fs::write(&pages, copy).unwrap();
    saved.check(tmp.path()).unwrap();
}

#[test]
fn a_digest_sees_content_and_place_but_not_holes() {
    let tmp = tempfile::tempdir().unwrap();
    let write = |name: &str, parts: &[(u64, &[u8])], size: u64| {
        let path = tmp.path().join(name);
        let file = fs::File::create(&path).unwrap();
        for (at, bytes) in parts {
            file.write_all_at(bytes, *at).unwrap();
        }
        file.set_len(size).unwrap();
        digest_pages(&path).unwrap()
    };
    let size = 200 << 20;
    let zeros = vec![0; 1 << 20];
    let sparse = write("a", &[(0, b"x"), (100 << 20, b"y")], size);
    let full = write(
        "b",
        &[(0, b"x"), (10 << 20, &zeros), (100 << 20, b"y")],
        size,
    );
    assert_eq!(sparse, full);
    assert_ne!(sparse, write("c", &[(0, b"x"), (101 << 20, b"y")], size));
    assert_ne!(sparse, write("d", &[(0, b"x"), (100 << 20, b"z")], size));
    assert_ne!(
        sparse,
        write("e", &[(0, b"x"), (100 << 20, b"y")], size + 4096)
    );
    assert_ne!(write("f", &[], 0), write("g", &[(0, b"x")], 1));
}

#[test]
fn another_host_is_told_by_what_differs() {
    assert_eq!(host().difference(&host()), None);
    let qemu = HostMark {
        qemu: Version::new(10, 1, 0).to_string(),
        ..host()
    };
    let why = host().difference(&qemu).unwrap();
    assert!(why.contains("10.0.2") && why.contains("10.1.0"), "{why}");
    let cpu = HostMark {
        cpu: "other".into(),
        ..host()
    };
    assert!(host().difference(&cpu).unwrap().contains("processor"));
}

#[test]
fn a_processor_is_told_by_what_does_not_change_with_the_moment() {
    let info = |mhz: &str, flags: &str| {
        format!(
            "processor\t: 0\nvendor_id\t: X\nmodel name\t: Y\ncpu MHz\t\t: {mhz}\nflags\t\t: {flags}\n\nprocessor\t: 1\n"
        )
    };
    assert_eq!(
        processor(&info("1000", "a b")),
        processor(&info("2000", "a b"))
    );
    assert_ne!(
        processor(&info("1000", "a b")),
        processor(&info("1000", "a"))
    );
}

#[test]
fn files_are_named_by_their_state() {
    let [pages, devices] = file_names("12ab");
    assert_eq!(id_of(&pages), Some("12ab"));
    assert_eq!(id_of(&devices), Some("12ab"));
    assert_eq!(id_of("kubby.disk-12.qcow2"), None);
}

#[test]
fn a_manifest_with_an_earlier_profile_is_read_and_one_with_a_newer_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = SavedDir::at(tmp.path().to_owned());
    let path = tmp.path().join(MANIFEST);
    let text = include_str!("manifest-with-profile-v1.json");
    fs::write(&path, text).unwrap();
    let saved = dir.load().unwrap().unwrap();
    assert_eq!(saved.profile.version, FILE_VERSION);
    assert_eq!(saved.profile.first().disk, saved.disk);
    dir.save(&saved).unwrap();
    assert_eq!(dir.load().unwrap(), Some(saved));

    let newer = text.replace("\"version\": 1", "\"version\": 99, \"shape\": \"round\"");
    fs::write(&path, newer).unwrap();
    let e = dir.load().unwrap_err();
    assert_eq!(e.kind(), Kind::State);
    assert!(e.message().contains("newer kubby (file version 99"), "{e}");
}
