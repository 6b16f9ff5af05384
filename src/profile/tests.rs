use super::*;
use crate::store::Store;

#[test]
fn a_profile_survives_the_disk_and_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let tmp = tempfile::tempdir().unwrap();
    let dir = Store::at(tmp.path(), tmp.path()).profile_dir(&"dev".parse().unwrap());
    assert_eq!(Profile::load(&dir).unwrap(), None);
    example().save(&dir).unwrap();
    assert_eq!(Profile::load(&dir).unwrap(), Some(example()));
    let mode = |p: &std::path::Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.profile()), 0o600);
    assert_eq!(mode(dir.root()), 0o700);
}

#[test]
fn a_newer_file_is_told_from_a_damaged_one() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = Store::at(tmp.path(), tmp.path()).profile_dir(&"dev".parse().unwrap());
    fsutil::create_private_dir(dir.root()).unwrap();
    for (text, words) in [
        ("version = 99\nshape = \"round\"\n", "newer kubby"),
        ("version = 1\n", "damaged"),
        ("version = 0\nname = \"dev\"\n", "damaged"),
        ("version = 1\nname = \"../dev\"\n", "damaged"),
        ("version = \"1\"\n", "damaged"),
        (
            "version = 6\n",
            "newer kubby (file version 6; this one knows up to 5)",
        ),
        ("version = ", "damaged"),
        ("\0\0", "damaged"),
    ] {
        std::fs::write(dir.profile(), text).unwrap();
        let e = Profile::load(&dir).unwrap_err();
        assert_eq!(e.kind(), Kind::State);
        assert!(e.message().contains(words), "{text}: {e}");
    }
}

/// Files as earlier versions of kubby wrote them: each form of a version, with what it added.
const EARLIER: [(u32, &str, &str); 9] = [
    (1, "first", include_str!("golden/v1-first.toml")),
    (1, "forwards", include_str!("golden/v1-with-forwards.toml")),
    (1, "addons", include_str!("golden/v1-with-addons.toml")),
    (1, "egress", include_str!("golden/v1-with-egress.toml")),
    (1, "disk", include_str!("golden/v1-with-disk.toml")),
    (2, "whole", include_str!("golden/v2-whole.toml")),
    (2, "least", include_str!("golden/v2-least.toml")),
    (3, "whole", include_str!("golden/v3-whole.toml")),
    (4, "workers", include_str!("golden/v4-workers.toml")),
];

fn folder_with(tmp: &tempfile::TempDir, text: &str) -> ProfileDir {
    let dir = Store::at(tmp.path(), tmp.path()).profile_dir(&"dev".parse().unwrap());
    fsutil::create_private_dir(dir.root()).unwrap();
    std::fs::write(dir.profile(), text).unwrap();
    dir
}

#[test]
fn files_of_earlier_kubbys_are_read() {
    for (_, form, text) in EARLIER {
        let tmp = tempfile::tempdir().unwrap();
        let dir = folder_with(&tmp, text);
        let profile = Profile::load(&dir).unwrap().unwrap();
        assert_eq!(profile.version, FILE_VERSION, "{form}");
        assert_eq!(profile.nodes.len(), 1 + usize::from(form == "workers"));
        let node = profile.first();
        assert_eq!(
            (node.name.as_str(), node.role),
            ("kubby", Role::ControlPlane)
        );
        assert_eq!(node.uuid, "a00d7d26-c236-4246-a45c-5501537002d4");
        assert_eq!((node.ports.ssh, node.ports.api), (39307, Some(34395)));
        let disk = match form {
            "first" => "kubby.disk.qcow2",
            "least" => "kubby.disk-601c721f2765.qcow2",
            "disk" | "whole" | "workers" => "kubby-dev.disk-601c721f2765.qcow2",
            _ => "kubby-dev.disk.qcow2",
        };
        assert_eq!(node.disk, disk, "{form}");
        let least = form == "least";
        let sizes = (
            node.machine.cpus,
            node.machine.memory_mib,
            node.machine.disk_mib,
        );
        assert_eq!(
            sizes,
            if least {
                (2, 2048, 20480)
            } else {
                (4, 4096, 20480)
            }
        );
        assert_eq!(
            node.machine.acceleration,
            if least {
                Acceleration::Kvm
            } else {
                Acceleration::Tcg
            }
        );
        let addons: &[&str] = match form {
            "addons" => &["dns", "metrics"],
            "least" => &[],
            _ => &["dns", "storage"],
        };
        assert_eq!(profile.spec.addons, addons, "{form}");
        let whole = ["whole", "workers"].contains(&form);
        assert_eq!(profile.forwards.is_empty(), !whole && form != "forwards");
        assert_eq!(
            node.machine.kernel_args.is_empty(),
            !whole && form != "forwards"
        );
        assert_eq!(profile.spec.egress.is_empty(), !whole && form != "egress");
        // Reading changes nothing on the disk.
        assert_eq!(std::fs::read_to_string(dir.profile()).unwrap(), text);
    }
}

#[test]
fn an_earlier_file_stays_beside_the_one_that_replaces_it() {
    use std::os::unix::fs::PermissionsExt;
    for (version, form, text) in EARLIER {
        let tmp = tempfile::tempdir().unwrap();
        let dir = folder_with(&tmp, text);
        let mut profile = Profile::load(&dir).unwrap().unwrap();
        assert_eq!(earlier(&dir), Some((version, text.to_owned())));
        profile.first_mut().machine.cpus = 3;
        for _ in 0..2 {
            profile.save(&dir).unwrap();
            assert_eq!(earlier(&dir), None);
            assert_eq!(
                Profile::load(&dir).unwrap().as_ref(),
                Some(&profile),
                "{form}"
            );
            let kept = dir.earlier_profile(version);
            assert_eq!(std::fs::read_to_string(&kept).unwrap(), text, "{form}");
            let mode = std::fs::metadata(&kept).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}

#[test]
fn a_profile_begins_with_a_control_plane() {
    let mut profile = example();
    profile.first_mut().role = Role::Worker;
    let worker = toml::to_string_pretty(&profile).unwrap();
    profile.nodes.clear();
    for text in [worker, toml::to_string_pretty(&profile).unwrap()] {
        let tmp = tempfile::tempdir().unwrap();
        let e = Profile::load(&folder_with(&tmp, &text)).unwrap_err();
        assert!(e.message().contains("damaged"), "{e}");
        assert!(e.details()[0].1.contains("control plane"), "{e:?}");
    }
}

/// A new field or another meaning needs a new version, a step to it, and a file for [`EARLIER`].
#[test]
fn the_present_version_has_this_form() {
    insta::assert_snapshot!(toml::to_string_pretty(&example()).unwrap());
}

#[test]
fn what_the_present_version_needs_is_not_made_up_for() {
    let text = toml::to_string_pretty(&example()).unwrap();
    for line in ["disk = ", "addons = ", "uuid = ", "version = "] {
        let without: Vec<&str> = text.lines().filter(|l| !l.starts_with(line)).collect();
        let tmp = tempfile::tempdir().unwrap();
        let dir = folder_with(&tmp, &without.join("\n"));
        let e = Profile::load(&dir).unwrap_err();
        assert!(e.message().contains("damaged"), "{line}: {e}");
    }
}
