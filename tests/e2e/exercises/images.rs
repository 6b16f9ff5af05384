//! The images of the exercises, built here: no registry is needed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::json;

use super::file;
use crate::archive_samples::{Image, digest, docker_files, layer, oci_files, tar};
use crate::env::Env;
use crate::group::Test;
use crate::program::Run;

pub const TESTS: &[Test] = tests![the_chapters_images_are_loaded,];

/// The shell and the small tools that workloads are made of.
pub const BUSYBOX: &str = "busybox:1.36";

fn the_chapters_images_are_loaded(env: &Env) {
    load_busybox(env);
    load_mysql(env);
    let list = env.kubby(&["image", "list", "-o", "json"]).ok().stdout;
    for name in [
        "docker.io/library/mysql:5.7",
        "docker.io/library/busybox:1.36",
    ] {
        assert!(list.contains(name), "no {name} in\n{list}");
    }
}

/// Loads [`BUSYBOX`] into the node.
pub fn load_busybox(env: &Env) {
    env.once("busybox", || {
        let archive = env.root().join("busybox.tar");
        write_busybox(&archive);
        load(env, &archive);
    });
}

/// Writes an archive with [`BUSYBOX`].
pub fn write_busybox(archive: &Path) {
    let name = format!("docker.io/library/{BUSYBOX}");
    std::fs::write(archive, tar(&oci_files(busybox(), Some(&name)))).expect("the archive");
}

/// Loads the stand-in for mysql:5.7 into the node.
pub fn load_mysql(env: &Env) {
    env.once("mysql", || {
        let archive = env.root().join("mysql.tar");
        if !archive.exists() {
            make_mysql(&archive);
        }
        load(env, &archive);
    });
}

fn load(env: &Env, archive: &Path) {
    let run = env
        .kubby(&["image", "load", &archive.to_string_lossy()])
        .ok();
    let size = std::fs::metadata(archive).expect("the archive").len() >> 20;
    note!(
        "{}, {size} MiB: loaded in {:.1} s",
        archive.display(),
        run.took.as_secs_f64()
    );
}

/// Makes a stand-in for mysql:5.7 out of Debian's MariaDB, as `docker save` writes it, of two layers.
fn make_mysql(archive: &Path) {
    let rootfs = archive.with_extension("rootfs");
    let mut build = Command::new("bash");
    build.arg(file("mysql/build.sh")).arg(&rootfs);
    Run::of(build).ok();
    // The client of 5.7 talks without TLS to a server that has none.
    let client = layer(&[("etc/my.cnf", 0o644, b"[client]\nskip-ssl\n".as_slice())]);
    let layers = vec![std::fs::read(&rootfs).expect("the file system"), client];
    let image = Image {
        config: config(&layers, &["entrypoint.sh"], &["mysqld"]),
        layers,
    };
    std::fs::write(archive, tar(&docker_files(&image, &["mysql:5.7"]))).expect("the archive");
    std::fs::remove_file(rootfs).expect("the file system goes");
}

/// Returns Debian's static busybox with its applets, in three layers.
pub fn busybox() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(make_busybox)
}

fn make_busybox() -> Image {
    let dir = tempfile::tempdir().expect("a folder");
    let work = dir.path();
    // With lists of its own: the host's may be missing, and not every user can renew them.
    let mut get = Command::new("sh");
    get.current_dir(work).arg("-euc").arg(
        "mkdir -p lists/partial
         apt-get -q -o Dir::State::Lists=$PWD/lists update
         apt-get -q -o Dir::State::Lists=$PWD/lists download busybox-static
         dpkg-deb -x busybox-static_*.deb .",
    );
    Run::of(get).ok();
    let program = ["bin/busybox", "usr/bin/busybox"]
        .iter()
        .find_map(|path| std::fs::read(work.join(path)).ok())
        .expect("a busybox");
    // It takes its own name for an applet's, unless that is `busybox`.
    let path = work.join("busybox");
    std::fs::write(&path, &program).expect("the program");
    let mut list = Command::new("sh");
    list.arg("-euc")
        .arg("chmod 755 \"$1\"; \"$1\" --list")
        .arg("-")
        .arg(&path);
    let applets = Run::of(list).ok().stdout;
    let mut links = tar::Builder::new(Vec::new());
    for applet in applets.lines().filter(|name| *name != "busybox") {
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        links
            .append_link(&mut link, format!("bin/{applet}"), "busybox")
            .expect("a link");
    }
    let etc = layer(&[
        (
            "etc/passwd",
            0o644,
            b"root:x:0:0:root:/:/bin/sh\n".as_slice(),
        ),
        ("tmp/.keep", 0o644, b""),
    ]);
    let layers = vec![
        layer(&[("bin/busybox", 0o755, &program)]),
        links.into_inner().expect("the links"),
        etc,
    ];
    Image {
        config: config(&layers, &[], &["sh"]),
        layers,
    }
}

fn config(layers: &[Vec<u8>], entrypoint: &[&str], command: &[&str]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|l| digest(l)).collect();
    let arch = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    json!({
        "architecture": arch,
        "os": "linux",
        "config": {
            "Entrypoint": entrypoint,
            "Cmd": command,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        },
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string()
    .into_bytes()
}

/// Makes the program of the serverless job in a folder with its Dockerfile.
pub fn price_context(dir: &Path) -> PathBuf {
    let context = dir.join("price");
    std::fs::create_dir_all(&context).expect("a folder");
    std::fs::copy(file("price/Dockerfile"), context.join("Dockerfile")).expect("the Dockerfile");
    let mut build = Command::new("go");
    build
        .current_dir(file("price"))
        .args(["build", "-trimpath", "-ldflags=-s -w", "-o"])
        .arg(context.join("price"))
        .arg(".")
        .env("CGO_ENABLED", "0");
    Run::of(build).ok();
    context
}
