//! Images that are built in the node.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::Value;

use super::{delete_pods, folder, has_demos, names, pod_prints, program, run_pod, write};
use crate::env::Env;
use crate::group::Test;

pub const TESTS: &[Test] = tests![images_are_built_in_the_node, a_failing_build_says_why];

/// Makes a folder with what the image `built:1` is made of.
fn context(env: &Env) -> PathBuf {
    let dir = folder(env, "build");
    let file = "# syntax=docker/dockerfile:1\nFROM scratch AS base\nARG WORD=none\n\
        COPY hello /bin/hello\nCOPY greeting /etc/greeting\nLABEL word=$WORD\n\
        ENTRYPOINT [\"/bin/hello\"]\nFROM base AS extra\nCMD [\"extra\"]\n";
    write(&dir.join("hello"), &program(env));
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.join("hello"), mode).expect("a mode");
    for (name, text) in [
        ("secret", "not for images"),
        (".dockerignore", "secret\n"),
        ("greeting", "built"),
        ("Dockerfile", file),
    ] {
        write(&dir.join(name), text.as_bytes());
    }
    dir
}

fn images_are_built_in_the_node(env: &Env) {
    has_demos(env, &["oci"]);
    let dir = context(env);
    let path = dir.to_str().expect("a path");
    let names_and_parts = [
        ["-t", "built:1"],
        ["-t", "host.example/built:2"],
        ["--build-arg", "WORD=said"],
        ["--target", "base"],
        ["-o", "json"],
    ];
    let build = [&["image", "build", path][..], &names_and_parts.concat()].concat();
    let run = env.kubby(&build).ok();
    note!("first build: {:.1} s", run.took.as_secs_f64());
    let value: Value = run.json();
    assert_eq!(value["kind"], "ImageBuild");
    assert_eq!(value["names"][1], "host.example/built:2");
    assert!(names(env).contains(&"host.example/built:2".to_owned()));

    // The next one is built on what was just built, which no registry has; in a Containerfile.
    let next = folder(env, "build-next");
    write(&next.join("greeting"), b"built on top");
    let file = "FROM built:1\nCOPY greeting /etc/greeting\nRUN [\"/bin/hello\", \"ran\"]\nCMD [\"twice\"]\n";
    write(&next.join("Containerfile"), file.as_bytes());
    let next = next.to_str().expect("a path");
    let run = env
        .kubby(&["image", "build", next, "-t", "built:top"])
        .ok()
        .prints("docker.io/library/built:top");
    note!("second build: {:.1} s", run.took.as_secs_f64());
    // And one on what was loaded.
    let file = "FROM demo:oci\nCOPY greeting /etc/greeting\n";
    let file = write(&dir.join("OnLoaded"), file.as_bytes());
    let on_loaded = ["-f", &file, "-t", "built:loaded", "-q"];
    let build = [&["image", "build", path][..], &on_loaded].concat();
    env.kubby(&build).ok();
    run_pod(env, "image-built", "built:top", &[]);
    run_pod(env, "image-on-loaded", "built:loaded", &["over"]);
    pod_prints(env, "image-built", "built on top twice");
    pod_prints(env, "image-on-loaded", "built over");
    delete_pods(env, &["image-built", "image-on-loaded"]);
    // What .dockerignore names is not sent.
    let secret = write(&dir.join("WithSecret"), b"FROM scratch\nCOPY secret /\n");
    env.kubby(&["image", "build", path, "-f", &secret, "-t", "secret:1"])
        .exits(2)
        .says("secret");
    env.kubby(&["ssh", "--", "stat -c %a /run/buildkit"])
        .ok()
        .prints("700");
}

fn a_failing_build_says_why(env: &Env) {
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
