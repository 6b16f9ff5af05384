//! Archives that are damaged, huge or never end, and arguments that make no sense.

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{arch, folder, image, names, other_arch, write};
use crate::archive_samples::{Image, docker_files, gzip, layer, oci_files, tar};
use crate::env::Env;
use crate::group::Test;
use crate::program::Running;

pub const TESTS: &[Test] = tests![
    bad_archives_change_nothing,
    bad_image_arguments_are_refused,
    a_large_archive_needs_little_memory,
    an_interrupted_load_changes_nothing,
];

fn bad_archives_change_nothing(env: &Env) {
    let dir = folder(env, "bad");
    let good = image(env, arch(), "never seen");
    let archive = tar(&oci_files(&good, Some("bad:1")));
    let older = tar(&docker_files(&good, &["bad:1"]));
    let foreign = tar(&oci_files(&image(env, other_arch(), "x"), Some("bad:1")));
    let nameless = tar(&oci_files(&good, None));
    let before = names(env);
    let cut = |bytes: &[u8], n: usize| bytes[..n].to_vec();
    for (name, bytes, code, words) in [
        (
            "cut.tar",
            cut(&archive, archive.len() / 2),
            11,
            "is cut off",
        ),
        (
            "cut-end.tar",
            cut(&archive, archive.len() - 1024),
            11,
            "is cut off",
        ),
        (
            "cut-older.tar",
            cut(&older, older.len() - 1024),
            11,
            "is cut off",
        ),
        ("cut.tar.gz", cut(&gzip(&archive), 90_000), 11, "is cut off"),
        (
            "text.tar",
            b"hello".repeat(1000),
            11,
            "is not an archive of container images",
        ),
        ("foreign.tar", foreign, 11, "and the node is linux/"),
        ("nameless.tar", nameless, 2, "--as NAME"),
    ] {
        let file = write(&dir.join(name), &bytes);
        let run = env
            .kubby(&["image", "load", &file])
            .exits(code)
            .says(words)
            .says(name);
        assert!(run.stdout.is_empty(), "{}", run.stdout);
    }
    // A layer that is not a tar file: right by every digest, and noticed by containerd only.
    let broken = Image::new(arch(), vec![b"not a layer at all".repeat(100)], &["/x"]);
    let file = write(
        &dir.join("broken.tar"),
        &tar(&oci_files(&broken, Some("bad:2"))),
    );
    env.kubby(&["image", "load", &file])
        .exits(11)
        .says("cannot import")
        .says("it says");
    assert_eq!(names(env), before);
}

fn bad_image_arguments_are_refused(env: &Env) {
    let dir = folder(env, "arguments");
    let dir = dir.to_str().expect("a path");
    for (args, words) in [
        (
            &["load", "/no/such.tar"][..],
            "there is no file /no/such.tar",
        ),
        (&["load", "no-such.tar"], "there is no file no-such.tar"),
        (&["load", "No Such"], "not an image name"),
        (&["load", dir], "is a folder"),
        (&["load", "x.tar", "--as", "Capital:1"], "capital"),
        (&["load", "x.tar", "--as", "a:b:c"], "not a tag"),
        (&["tag", "demo:oci", "bad//name"], "slashes"),
        (&["pull", "bad name"], "not allowed"),
        (&["remove", "bad name"], "not an image name"),
        (&["build", "/no/such/dir", "-t", "a"], "does not exist"),
        (&["build", dir, "-t", "a"], "neither a Dockerfile nor"),
        (&["build", dir, "-t", "A"], "capital"),
        (&["build", dir], "needs a name"),
    ] {
        let mut all = vec!["image"];
        all.extend(args);
        env.kubby(&all).exits(2).says(words);
    }
    env.kubby_on("no-such", &["image", "list"])
        .exits(15)
        .says("no cluster named");
}

/// Returns bytes that do not compress, the same every time.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn large(env: &Env, name: &str) -> PathBuf {
    let path = folder(env, "large").join(name.replace(':', "-"));
    let layer = layer(&[("data", 0o644, &noise(100 << 20))]);
    let image = Image::new(arch(), vec![layer], &["/none"]);
    write(&path, &tar(&oci_files(&image, Some(name))));
    path
}

fn a_large_archive_needs_little_memory(env: &Env) {
    let path = large(env, "large:1");
    let mut command = env.kubby_command();
    command
        .args(["-p", &env.profile, "image", "load"])
        .arg(&path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let began = Instant::now();
    let mut load = Running::start(&mut command);
    let status = format!("/proc/{}/status", load.id());
    let mut most = 0;
    while load.child().try_wait().expect("a status").is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        if let Some(kib) = line.and_then(|l| l.split_whitespace().next()) {
            most = most.max(kib.parse::<u64>().expect("a number"));
        }
        assert!(began.elapsed().as_secs() < 600, "it does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = load.output();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    note!(
        "100 MiB loaded in {:.1} s with {} MiB of memory",
        began.elapsed().as_secs_f64(),
        most / 1024
    );
    assert!(most > 1024 && most < 64 * 1024, "{most} KiB at the most");
    assert!(names(env).contains(&"docker.io/library/large:1".to_owned()));
    env.kubby(&["image", "rm", "large:1"]).ok();
    std::fs::remove_file(path).expect("removed");
}

fn an_interrupted_load_changes_nothing(env: &Env) {
    let before = names(env);
    let archive = tar(&oci_files(
        &image(env, arch(), "interrupted"),
        Some("interrupted:1"),
    ));
    let mut command = env.kubby_command();
    command
        .args(["-p", &env.profile, "image", "load", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut load = Running::start(&mut command);
    let mut stdin = load.child().stdin.take().expect("stdin");
    stdin
        .write_all(&archive[..archive.len() - 2048])
        .expect("most of it");
    // The pipe stays open: kubby waits for the rest.
    std::thread::sleep(Duration::from_millis(500));
    load.signal(Signal::INT);
    let began = Instant::now();
    let status = load.ends_within(Duration::from_secs(60));
    assert_eq!(status.code(), Some(130));
    assert!(
        began.elapsed() < env.limit_here(Duration::from_secs(10)),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(names(env), before);
}
