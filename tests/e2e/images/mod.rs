//! Container images: brought in, listed, named, saved, removed, built, and run by pods.

pub mod bad;
pub mod build;
pub mod load;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::archive_samples::{Image, docker_files, gzip, layer, oci_files, tar, zstd};
use crate::env::Env;
use crate::program::{Run, eventually};

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

pub fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}

pub fn other_arch() -> &'static str {
    if arch() == "amd64" { "arm64" } else { "amd64" }
}

/// A folder for the test's files.
pub fn folder(env: &Env, name: &str) -> PathBuf {
    let dir = env.root().join("images").join(name);
    std::fs::create_dir_all(&dir).expect("a folder");
    dir
}

/// A static program, built once.
pub fn program(env: &Env) -> Vec<u8> {
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
pub fn image(env: &Env, arch: &str, greeting: &str) -> Image {
    let layers = vec![
        layer(&[("bin/hello", 0o755, &program(env))]),
        layer(&[("etc/greeting", 0o644, greeting.as_bytes())]),
    ];
    Image::new(arch, layers, &["/bin/hello"])
}

pub fn write(path: &Path, content: &[u8]) -> String {
    std::fs::write(path, content).expect("a file");
    path.to_str().expect("a path").to_owned()
}

pub fn names(env: &Env) -> Vec<String> {
    let list = env.kubby(&["image", "list", "-o", "json"]).ok().json();
    let items = list["items"].as_array().expect("items").clone();
    items
        .iter()
        .flat_map(|i| i["names"].as_array().expect("names").clone())
        .map(|name| name.as_str().expect("a name").to_owned())
        .collect()
}

pub fn run_pod(env: &Env, pod: &str, image: &str, args: &[&str]) {
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

pub fn pod_prints(env: &Env, pod: &str, words: &str) {
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

pub fn delete_pods(env: &Env, pods: &[&str]) {
    let mut args = vec!["delete", "pod", "--grace-period=1", "--wait=true"];
    args.extend(pods);
    env.kubectl(&args).ok();
}

/// The images that several tests work on, by their tags; what they print is what they are.
const DEMOS: [(&str, &str); 3] = [
    ("older", "older docker"),
    ("oci", "oci in gzip"),
    ("zst", "zstd all over"),
];

/// Makes an archive of the image `demo` with this tag, each in another format.
pub fn demo(env: &Env, tag: &str) -> Vec<u8> {
    let (_, greeting) = DEMOS.iter().find(|(of, _)| *of == tag).expect("a tag");
    let image = image(env, arch(), greeting);
    match tag {
        "older" => tar(&docker_files(&image, &["demo:older"])),
        "oci" => {
            let name = Some("docker.io/library/demo:oci");
            gzip(&tar(&oci_files(&image.compressed(gzip), name)))
        }
        // Without a name of its own.
        _ => zstd(&tar(&oci_files(&image.compressed(zstd), None))),
    }
}

/// Loads the images `demo` with these tags, unless the node has them.
pub fn has_demos(env: &Env, tags: &[&str]) {
    let there = names(env);
    let is_there = |tag: &str| there.contains(&format!("docker.io/library/demo:{tag}"));
    for tag in tags {
        let file = folder(env, "demo").join(tag);
        // The one without a name of its own has two.
        let names: &[&str] = match *tag {
            "zst" if is_there("zst") && is_there("latest") => continue,
            "zst" => &["--as", "demo:zst", "--as", "demo"],
            other if is_there(other) => continue,
            _ => &[],
        };
        let file = write(&file, &demo(env, tag));
        let load = [&["image", "load", file.as_str()], names].concat();
        env.kubby(&load).ok();
    }
}
