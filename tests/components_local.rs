//! Component sets made on this host: of a folder of programs and, when asked for, by a real build.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod volume_contents;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use kubby::testing::assets::components::{ComponentSet, Request, Source, ensure};
use kubby::testing::assets::download::Limits;
use kubby::testing::assets::version::{self, KubernetesVersion};
use kubby::testing::error::Result;
use kubby::testing::progress::{Progress, Silent, Step};
use volume_contents::{EXTRA_IMAGES, PROGRAMS, check_extras, unpacked, write_extras};

fn write_program(path: &Path, says: &str) {
    fs::write(path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    write_program(&bin.join("kube"), "Kubernetes v1.37.2");
    for name in PROGRAMS {
        std::os::unix::fs::symlink("kube", bin.join(name)).unwrap();
    }
    write_program(&bin.join("etcd"), "etcd Version: 3.6.1");
    write_program(&bin.join("coredns"), "CoreDNS-1.14.0");
    write_program(&bin.join("pause"), "pause");
    write_extras(dir.path());
    dir
}

fn from_folder(dir: &Path, cache: &Path) -> Result<ComponentSet> {
    let request = Request {
        version: version::DEFAULT,
        source: Source::Auto,
        dir: Some(dir),
        binary_mirror: None,
        extras: None,
        cache,
        limits: Limits::default(),
    };
    ensure(&request, &Silent)
}

#[test]
fn a_folder_of_programs_becomes_a_set() {
    let (dir, cache) = (folder(), tempfile::tempdir().unwrap());
    let set = from_folder(dir.path(), cache.path()).unwrap();
    assert_eq!((&*set.origin, &*set.etcd_version), ("directory", "3.6.1"));
    assert_eq!(set.coredns_version, "1.14.0");
    let out = unpacked(&set.volume);
    let link = fs::read_link(out.path().join("bin/kube-apiserver")).unwrap();
    assert_eq!(link, Path::new("kube"));
    check_extras(out.path());
    assert!(fs::symlink_metadata(&set.kubectl).unwrap().is_file());
    assert_eq!(from_folder(dir.path(), cache.path()).unwrap(), set);
    // A changed program makes another set.
    write_program(&dir.path().join("bin/etcd"), "etcd Version: 3.6.2");
    assert_ne!(from_folder(dir.path(), cache.path()).unwrap().key, set.key);
    // An image's archive has its own name, and goes before the program.
    let archive = dir.path().join("images/storage.tar");
    fs::create_dir(archive.parent().unwrap()).unwrap();
    fs::copy(out.path().join("images/coredns.tar"), &archive).unwrap();
    let renamed = from_folder(dir.path(), cache.path()).unwrap();
    assert_eq!(renamed.image("storage").unwrap(), set.images["coredns"]);
    // A program of its own goes before another's name.
    let plugin = dir.path().join("cni/bridge");
    fs::create_dir(plugin.parent().unwrap()).unwrap();
    write_program(&plugin, "bridge");
    let own = from_folder(dir.path(), cache.path()).unwrap();
    let volume = unpacked(&own.volume);
    let taken = fs::read(volume.path().join("cni/bridge")).unwrap();
    assert_eq!(taken, fs::read(&plugin).unwrap());
    // A finished set is a folder that can be used as well.
    let entry = set.volume.parent().unwrap();
    let direct = from_folder(entry, tempfile::tempdir().unwrap().path()).unwrap();
    assert_eq!(
        (direct.key, direct.volume.clone()),
        (set.key.clone(), set.volume.clone())
    );
}

#[test]
fn all_that_a_folder_lacks_is_in_one_error() {
    let (dir, cache) = (folder(), tempfile::tempdir().unwrap());
    for name in ["kubelet", "etcd", "pause"] {
        fs::remove_file(dir.path().join("bin").join(name)).unwrap();
    }
    let error = from_folder(dir.path(), cache.path()).unwrap_err();
    for name in ["bin/kubelet", "bin/etcd", "bin/pause or images/pause.tar"] {
        assert!(error.message().contains(name), "{error}");
    }
}

#[test]
fn a_folder_of_another_version_is_refused() {
    let (dir, cache) = (folder(), tempfile::tempdir().unwrap());
    write_program(&dir.path().join("bin/kube"), "Kubernetes v1.36.3");
    let error = from_folder(dir.path(), cache.path()).unwrap_err();
    assert!(error.message().contains("v1.36.3, not v1.37.2"), "{error}");
}

/// The program that gives claims their volumes has tests of its own.
#[test]
fn the_storage_provisioner_passes_its_tests() {
    let Some(go) = kubby::testing::tool::find("go") else {
        panic!("there is no Go on this host: scripts/setup says how to get it");
    };
    let out = Command::new(go)
        .args(["test", "-mod=readonly", "./..."])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("images/components/storage"))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        out.status.success(),
        "{}{}",
        text(&out.stdout),
        text(&out.stderr)
    );
}

/// The runtime, which needs more than its recipe.
#[test]
#[ignore = "needs Go and minutes"]
fn the_runtime_is_built_where_a_folder_lacks_it() {
    let (dir, cache) = (folder(), tempfile::tempdir().unwrap());
    for name in ["cni", "cni-dhcp", "containerd", "containerd-shim-runc-v2"] {
        fs::remove_file(dir.path().join("bin").join(name)).unwrap();
    }
    let set = from_folder(dir.path(), cache.path())
        .unwrap_or_else(|e| panic!("{e}\n{:?}\n{:#?}", e.causes(), e.details()));
    check_runtime(unpacked(&set.volume).path());
}

/// Asks the programs of the runtime in an unpacked volume for their versions.
fn check_runtime(volume: &Path) {
    for (program, flag) in [
        ("containerd", "--version"),
        ("containerd-shim-runc-v2", "-v"),
        ("ctr", "--version"),
    ] {
        let path = volume.join("bin").join(program);
        let out = Command::new(path).arg(flag).output().unwrap();
        let output = String::from_utf8(out.stdout).unwrap();
        assert!(output.contains("v2.4.2"), "{program}: {output}");
    }
    for plugin in ["bridge", "host-local", "portmap", "dhcp"] {
        let out = Command::new(volume.join("cni").join(plugin))
            .env("CNI_COMMAND", "VERSION")
            .output();
        let output = String::from_utf8(out.unwrap().stdout).unwrap();
        assert!(output.contains("\"1.1.0\""), "{plugin}: {output}");
    }
    assert!(volume.join("containerd/images").is_file());
}

/// `KUBBY_TEST_VERSION` chooses the version, `KUBBY_CACHE` the cache.
#[test]
#[ignore = "needs Go and minutes"]
fn a_real_build_gives_programs_of_that_version() {
    struct Print;
    impl Progress for Print {
        fn step(&self, title: &str) -> Step {
            println!("{title}");
            Silent.step(title)
        }
        fn note(&self, text: &str) {
            println!("{text}");
        }
        fn warn(&self, text: &str) {
            println!("{text}");
        }
    }
    let version: KubernetesVersion = match std::env::var("KUBBY_TEST_VERSION") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => version::DEFAULT,
    };
    let temporary = tempfile::tempdir().unwrap();
    let cache = std::env::var_os("KUBBY_CACHE").map_or(temporary.path().into(), PathBuf::from);
    let request = Request {
        version,
        source: Source::Build,
        dir: None,
        binary_mirror: None,
        extras: None,
        cache: &cache,
        limits: Limits::default(),
    };
    let set = ensure(&request, &Print)
        .unwrap_or_else(|e| panic!("{e}\n{:?}\n{:#?}\n{:?}", e.causes(), e.details(), e.hints()));
    println!("{set:#?}");
    let dir = unpacked(&set.volume);
    let says = |program: &str, flag: &str| {
        let out = Command::new(dir.path().join("bin").join(program))
            .args(flag.split(' '))
            .output();
        String::from_utf8(out.unwrap().stdout).unwrap()
    };
    for program in PROGRAMS {
        let flag = if program == "kubectl" {
            "version --client"
        } else {
            "--version"
        };
        let output = says(program, flag);
        assert!(output.contains(&version.to_string()), "{program}: {output}");
    }
    assert!(says("etcd", "--version").contains(&set.etcd_version));
    assert!(says("etcdctl", "version").contains(&set.etcd_version));
    assert_eq!(says("crictl", "--version"), "crictl version v1.36.0\n");
    for program in ["buildkitd", "buildctl"] {
        let output = says(program, "--version");
        assert!(output.contains("v0.34.2"), "{program}: {output}");
    }
    check_runtime(dir.path());
    for (image, _) in EXTRA_IMAGES.iter().chain(&[("coredns", ""), ("pause", "")]) {
        let archive = dir.path().join(format!("images/{image}.tar"));
        assert!(fs::metadata(archive).unwrap().len() > 1 << 20, "{image}");
    }
}
