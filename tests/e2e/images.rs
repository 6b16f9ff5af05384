//! Container images: brought in, listed, named, saved, removed, built, and run by pods.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::archive_samples::{Image, docker_files, gzip, layer, oci_files, tar, zstd};
use crate::env::{Env, Run, Test, eventually};

pub const TESTS: &[Test] = &[
    (
        "images_of_every_format_are_loaded_and_run",
        images_of_every_format_are_loaded_and_run,
    ),
    (
        "an_image_is_tagged_and_removed",
        an_image_is_tagged_and_removed,
    ),
    ("a_saved_image_can_be_loaded", a_saved_image_can_be_loaded),
    ("bad_archives_change_nothing", bad_archives_change_nothing),
    (
        "bad_image_arguments_are_refused",
        bad_image_arguments_are_refused,
    ),
    (
        "a_local_engines_image_is_loaded",
        a_local_engines_image_is_loaded,
    ),
    (
        "a_large_archive_needs_little_memory",
        a_large_archive_needs_little_memory,
    ),
    (
        "an_interrupted_load_changes_nothing",
        an_interrupted_load_changes_nothing,
    ),
    ("a_failed_pull_says_why", a_failed_pull_says_why),
    ("images_are_built_in_the_node", images_are_built_in_the_node),
    ("a_failing_build_is_told", a_failing_build_is_told),
];

/// Prints a file of its image and what it was started with.
const PROGRAM: &str = r#"package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

func main() {
	text, err := os.ReadFile("/etc/greeting")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(strings.TrimSpace(string(text)), strings.Join(os.Args[1:], " "))
	if len(os.Args) > 1 && os.Args[1] == "stay" {
		time.Sleep(time.Hour)
	}
}
"#;

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}

fn other_arch() -> &'static str {
    if arch() == "amd64" { "arm64" } else { "amd64" }
}

/// A folder for the test's files.
fn folder(env: &Env, name: &str) -> PathBuf {
    let dir = env.root().join("images").join(name);
    std::fs::create_dir_all(&dir).expect("a folder");
    dir
}

/// A static program, built once.
fn program(env: &Env) -> Vec<u8> {
    let dir = folder(env, "program");
    let out = dir.join("hello");
    if !out.exists() {
        std::fs::write(dir.join("main.go"), PROGRAM).expect("a program");
        let mut go = Command::new("go");
        go.args(["build", "-trimpath", "-ldflags=-s -w", "-o"])
            .args([&out, &dir.join("main.go")])
            .current_dir(&dir)
            .env("CGO_ENABLED", "0");
        Run::of(go).ok();
    }
    std::fs::read(out).expect("the program")
}

/// An image of two layers that prints `greeting`.
fn image(env: &Env, arch: &str, greeting: &str) -> Image {
    let layers = vec![
        layer(&[("bin/hello", 0o755, &program(env))]),
        layer(&[("etc/greeting", 0o644, greeting.as_bytes())]),
    ];
    Image::new(arch, layers, &["/bin/hello"])
}

fn write(path: &Path, content: &[u8]) -> String {
    std::fs::write(path, content).expect("a file");
    path.to_str().expect("a path").to_owned()
}

fn names(env: &Env) -> Vec<String> {
    let list = env.kubby(&["image", "list", "-o", "json"]).ok().json();
    let items = list["items"].as_array().expect("items").clone();
    items
        .iter()
        .flat_map(|i| i["names"].as_array().expect("names").clone())
        .map(|name| name.as_str().expect("a name").to_owned())
        .collect()
}

fn run_pod(env: &Env, pod: &str, image: &str, args: &[&str]) {
    let image = format!("--image={image}");
    let mut all = vec![
        "run",
        pod,
        &image,
        "--image-pull-policy=IfNotPresent",
        "--restart=Never",
    ];
    if !args.is_empty() {
        all.push("--");
        all.extend(args);
    }
    env.kubectl(&all).ok();
}

fn pod_prints(env: &Env, pod: &str, words: &str) {
    eventually(
        Duration::from_secs(180),
        &format!("pod {pod} prints"),
        || {
            let log = env.kubectl(&["logs", pod]);
            if log.stdout.contains(words) {
                return Ok(());
            }
            let described = env.kubectl(&["describe", "pod", pod]).stdout;
            Err(format!("{}{}\n{described}", log.stdout, log.stderr))
        },
    );
}

fn delete_pods(env: &Env, pods: &[&str]) {
    let mut args = vec!["delete", "pod", "--grace-period=1", "--wait=true"];
    args.extend(pods);
    env.kubectl(&args).ok();
}

fn images_of_every_format_are_loaded_and_run(env: &Env) {
    let dir = folder(env, "formats");
    let older = image(env, arch(), "older docker");
    let oci = image(env, arch(), "oci in gzip").compressed(gzip);
    let zst = image(env, arch(), "zstd all over").compressed(zstd);
    let older_file = write(
        &dir.join("older.tar"),
        &tar(&docker_files(&older, &["demo:older"])),
    );
    let oci_file = write(
        &dir.join("oci"),
        &gzip(&tar(&oci_files(&oci, Some("docker.io/library/demo:oci")))),
    );
    let run = env
        .kubby(&["image", "load", &older_file, "-o", "json"])
        .ok();
    let value = run.json();
    assert_eq!(value["kind"], "ImageLoad");
    assert_eq!(
        value["images"][0]["names"][0],
        "docker.io/library/demo:older"
    );
    assert_eq!(value["images"][0]["id"], older.id());
    env.kubby(&["image", "load", &oci_file])
        .ok()
        .prints("docker.io/library/demo:oci\n");
    // From a pipe, without a name of its own; the layer with the program is in the node already
    // only where it is stored in the same way, so this one is sent whole.
    let archive = zstd(&tar(&oci_files(&zst, None)));
    let mut command = env.kubby_command();
    command
        .args([
            "-p",
            &env.profile,
            "image",
            "load",
            "-",
            "--as",
            "demo:zst",
            "--as",
            "demo",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("kubby runs");
    let mut stdin = child.stdin.take().expect("stdin");
    stdin.write_all(&archive).expect("the archive");
    drop(stdin);
    let output = child.wait_with_output().expect("kubby ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "docker.io/library/demo:latest\ndocker.io/library/demo:zst\n"
    );
    assert!(stderr.contains("imagePullPolicy: IfNotPresent"), "{stderr}");

    for (pod, image) in [
        ("older", "demo:older"),
        ("oci", "demo:oci"),
        ("zst", "demo"),
    ] {
        run_pod(env, &format!("image-{pod}"), image, &[]);
    }
    pod_prints(env, "image-older", "older docker");
    pod_prints(env, "image-oci", "oci in gzip");
    pod_prints(env, "image-zst", "zstd all over");
    delete_pods(env, &["image-older", "image-oci", "image-zst"]);

    // The second time there is nothing to send but the index.
    let again = env
        .kubby(&["image", "load", &oci_file, "-o", "json"])
        .ok()
        .json();
    let spared = again["sparedBytes"].as_u64().expect("a number");
    assert!(spared > 500_000, "{again}");
}

fn an_image_is_tagged_and_removed(env: &Env) {
    env.kubby(&[
        "image",
        "tag",
        "demo:older",
        "host.example:5000/team/demo:v1",
    ])
    .ok()
    .prints("host.example:5000/team/demo:v1");
    assert!(names(env).contains(&"host.example:5000/team/demo:v1".to_owned()));
    let list = env.kubby(&["image", "ls"]).ok();
    let row = list
        .stdout
        .lines()
        .find(|l| l.contains("team/demo"))
        .expect("a row");
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(words[..2], ["host.example:5000/team/demo", "v1"], "{row}");
    let id = words[2].to_owned();

    // The name goes, the image stays under its other name.
    env.kubby(&["image", "remove", "host.example:5000/team/demo:v1"])
        .ok();
    let left = names(env);
    assert!(!left.iter().any(|n| n.contains("team/demo")), "{left:?}");
    assert!(
        left.contains(&"docker.io/library/demo:older".to_owned()),
        "{left:?}"
    );

    // What runs is not pulled away from under its pod.
    run_pod(env, "image-stays", "demo:older", &["stay"]);
    pod_prints(env, "image-stays", "older docker stay");
    env.kubby(&["image", "rm", "demo:older"])
        .exits(15)
        .says("default/image-stays")
        .says("--force");
    env.kubby(&["image", "rm", "demo:oci", "no-such:1"])
        .exits(15)
        .says("no image named docker.io/library/no-such:1")
        .says("kubby image list");
    assert!(names(env).contains(&"docker.io/library/demo:oci".to_owned()));
    delete_pods(env, &["image-stays"]);
    let removed = env.kubby(&["image", "rm", &id, "-o", "json"]).ok().json();
    assert_eq!(removed["items"][0]["imageRemoved"], true, "{removed}");
    assert!(!names(env).contains(&"docker.io/library/demo:older".to_owned()));
    env.kubby(&["image", "rm", "registry.k8s.io/pause:3.10.2", "--force"])
        .exits(15)
        .says("every pod needs");
}

fn a_saved_image_can_be_loaded(env: &Env) {
    let dir = folder(env, "saved");
    let file = dir.join("saved.tar.gz");
    let path = file.to_str().expect("a path");
    env.kubby(&["image", "save", "demo:oci", "demo:zst", "-f", path])
        .ok()
        .prints("saved.tar.gz");
    let files = std::fs::read_dir(&dir).expect("a folder").count();
    assert_eq!(files, 1, "nothing but the archive is left");
    let content = std::fs::read(&file).expect("the archive");
    assert_eq!(content[..2], [0x1f, 0x8b], "it is compressed by its ending");
    env.kubby(&["image", "rm", "demo:oci", "demo:zst", "demo"])
        .ok();
    env.kubby(&["image", "load", path])
        .ok()
        .prints("docker.io/library/demo:oci\ndocker.io/library/demo:zst\n");
    run_pod(env, "image-again", "demo:oci", &["again"]);
    pod_prints(env, "image-again", "oci in gzip again");
    delete_pods(env, &["image-again"]);

    // Through a pipe, from one kubby to the next.
    let pipe = format!(
        "{0} -p {1} image save demo:oci -f - | {0} -p {1} image load - --as piped:1",
        env!("CARGO_BIN_EXE_kubby"),
        env.profile
    );
    let mut shell = env.kubby_command();
    let environment: Vec<_> = shell
        .get_envs()
        .map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned)))
        .collect();
    shell = Command::new("bash");
    shell
        .args(["-o", "pipefail", "-c", &pipe])
        .stdin(Stdio::null());
    for (key, value) in environment {
        if let Some(value) = value {
            shell.env(key, value);
        }
    }
    Run::of(shell).ok().prints("docker.io/library/piped:1");
    env.kubby(&["image", "save", "no-such:1", "-f", path])
        .exits(15)
        .says("no image named");
    assert_eq!(
        std::fs::read(&file).expect("the archive"),
        content,
        "it is untouched"
    );
    env.kubby(&["image", "save", "demo:oci", "-f", "/no/such/folder/x.tar"])
        .exits(2)
        .says("no folder /no/such/folder");
}

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
    // A layer that is no tar: right by every digest, and noticed by containerd only.
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
        (&["load", "x.tar", "--as", "a:b:c"], "no tag"),
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

fn a_local_engines_image_is_loaded(env: &Env) {
    let dir = folder(env, "engine");
    let archive = write(
        &dir.join("archive"),
        &tar(&docker_files(
            &image(env, arch(), "podman"),
            &["localhost/local:1"],
        )),
    );
    // Stands in for podman, which is not on every machine that runs this: the same arguments, a
    // real archive. The first one is a docker whose daemon does not run.
    let script = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.join(name);
        write(&path, text.as_bytes());
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    };
    script(
        "docker",
        "#!/bin/sh\necho 'Cannot connect to the daemon' >&2\nexit 1\n",
    );
    script(
        "podman",
        &format!(
            "#!/bin/sh\ncase \"$*\" in\n*inspect*' -- local:1') echo sha256:1 ;;\n\
             'image save -- local:1') cat {archive} ;;\n\
             *' -- breaks:1') [ \"$2\" = inspect ] || {{ head -c 5000 {archive}; echo 'disk on fire' >&2; exit 3; }} ;;\n\
             *) echo 'no such image' >&2; exit 125 ;;\nesac\n"
        ),
    );
    let load = |name: &str| {
        let mut command = env.kubby_command();
        let path = format!("{}:/usr/bin:/bin", dir.display());
        command
            .args(["-p", &env.profile, "image", "load", name])
            .env("PATH", path);
        Run::of(command)
    };
    load("local:1")
        .ok()
        .prints("docker.io/library/local:1\nlocalhost/local:1\n");
    load("absent:1")
        .exits(2)
        .says("docker: Cannot connect to the daemon")
        .says("podman: no such image")
        .says("kubby image pull");
    load("breaks:1").exits(11).says("disk on fire");
    env.kubby(&["image", "rm", "local:1", "localhost/local:1"])
        .ok();
}

/// Bytes that do not compress, the same every time.
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
    let layer = layer(&[("data", 0o644, &noise(210 << 20))]);
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
    let mut child = command.spawn().expect("kubby runs");
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    while child.try_wait().expect("a status").is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        if let Some(kib) = line.and_then(|l| l.split_whitespace().next()) {
            most = most.max(kib.parse::<u64>().expect("a number"));
        }
        assert!(began.elapsed().as_secs() < 600, "it does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().expect("kubby ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    eprintln!(
        "  210 MiB loaded in {:.1} s with {} MiB of memory",
        began.elapsed().as_secs_f64(),
        most / 1024
    );
    assert!(most > 1024 && most < 64 * 1024, "{most} KiB at the most");
    assert!(names(env).contains(&"docker.io/library/large:1".to_owned()));
    env.kubby(&["image", "rm", "large:1"]).ok();
    std::fs::remove_file(path).expect("removed");
}

fn an_interrupted_load_changes_nothing(env: &Env) {
    use rustix::process::{Pid, Signal, kill_process};
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
    let mut child = command.spawn().expect("kubby runs");
    let mut stdin = child.stdin.take().expect("stdin");
    stdin
        .write_all(&archive[..archive.len() - 2048])
        .expect("most of it");
    // The pipe stays open: kubby waits for the rest.
    std::thread::sleep(Duration::from_millis(500));
    kill_process(Pid::from_child(&child), Signal::INT).expect("a signal");
    let began = Instant::now();
    let status = child.wait().expect("kubby ends");
    assert_eq!(status.code(), Some(130));
    assert!(
        began.elapsed() < env.limit_here(Duration::from_secs(10)),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(names(env), before);
}

fn a_failed_pull_says_why(env: &Env) {
    env.kubby(&["image", "pull", "registry.invalid/team/app:1"])
        .exits(11)
        .says("cannot pull registry.invalid/team/app:1")
        .says("containerd says")
        .says("kubby image load");
}

fn images_are_built_in_the_node(env: &Env) {
    let dir = folder(env, "build");
    std::fs::write(dir.join("hello"), program(env)).expect("a file");
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.join("hello"), mode).expect("a mode");
    }
    std::fs::write(dir.join("secret"), "not for images").expect("a file");
    std::fs::write(dir.join(".dockerignore"), "secret\n").expect("a file");
    std::fs::write(dir.join("greeting"), "built").expect("a file");
    let file = "# syntax=docker/dockerfile:1\nFROM scratch AS base\nARG WORD=none\n\
        COPY hello /bin/hello\nCOPY greeting /etc/greeting\nLABEL word=$WORD\n\
        ENTRYPOINT [\"/bin/hello\"]\nFROM base AS extra\nCMD [\"extra\"]\n";
    std::fs::write(dir.join("Dockerfile"), file).expect("a file");
    let path = dir.to_str().expect("a path");
    let run = env
        .kubby(&[
            "image",
            "build",
            path,
            "-t",
            "built:1",
            "-t",
            "host.example/built:2",
            "--build-arg",
            "WORD=said",
            "--target",
            "base",
            "-o",
            "json",
        ])
        .ok();
    eprintln!("  first build: {:.1} s", run.took.as_secs_f64());
    let value: Value = run.json();
    assert_eq!(value["kind"], "ImageBuild");
    assert_eq!(value["names"][1], "host.example/built:2");
    assert!(names(env).contains(&"host.example/built:2".to_owned()));

    // The next one is built on what was just built, which no registry has; in a Containerfile.
    let next = folder(env, "build-next");
    std::fs::write(next.join("greeting"), "built on top").expect("a file");
    let file = "FROM built:1\nCOPY greeting /etc/greeting\nCMD [\"twice\"]\n";
    std::fs::write(next.join("Containerfile"), file).expect("a file");
    let run = env
        .kubby(&[
            "image",
            "build",
            next.to_str().expect("a path"),
            "-t",
            "built:top",
        ])
        .ok()
        .prints("docker.io/library/built:top");
    eprintln!("  second build: {:.1} s", run.took.as_secs_f64());
    // And one on what was loaded.
    let file = dir.join("OnLoaded");
    std::fs::write(&file, "FROM demo:oci\nCOPY greeting /etc/greeting\n").expect("a file");
    let file = file.to_str().expect("a path");
    env.kubby(&[
        "image",
        "build",
        path,
        "-f",
        file,
        "-t",
        "built:loaded",
        "-q",
    ])
    .ok();
    run_pod(env, "image-built", "built:top", &[]);
    run_pod(env, "image-on-loaded", "built:loaded", &["over"]);
    pod_prints(env, "image-built", "built on top twice");
    pod_prints(env, "image-on-loaded", "built over");
    delete_pods(env, &["image-built", "image-on-loaded"]);
    // What .dockerignore names is not sent.
    let secret = dir.join("WithSecret");
    std::fs::write(&secret, "FROM scratch\nCOPY secret /\n").expect("a file");
    let secret = secret.to_str().expect("a path");
    env.kubby(&["image", "build", path, "-f", secret, "-t", "secret:1"])
        .exits(2)
        .says("secret");
    env.kubby(&["ssh", "--", "stat -c %a /run/buildkit"])
        .ok()
        .prints("700");
}

fn a_failing_build_is_told(env: &Env) {
    let dir = folder(env, "build-fails");
    let path = dir.to_str().expect("a path");
    for (text, words) in [
        ("FROM scratch\nCOPY nothing /\n", "nothing"),
        ("FROM scratch\nBRING it\n", "unknown instruction"),
        ("FROM registry.invalid/no/such:1\n", "registry.invalid"),
    ] {
        std::fs::write(dir.join("Dockerfile"), text).expect("a file");
        for quiet in [&[][..], &["-q"]] {
            let mut args = vec!["image", "build", path, "-t", "fails:1"];
            args.extend(quiet);
            let run = env.kubby(&args).exits(2).says("the build of").says(words);
            assert!(run.stdout.is_empty(), "{}", run.stdout);
        }
    }
    assert!(!names(env).iter().any(|n| n.contains("fails")));
}
