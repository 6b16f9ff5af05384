//! A container image of the tests' own, with one small program: no registry is needed for it.

use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::env::Env;
use crate::program::Run;

/// The image's name where it is loaded into the node.
pub const NAME: &str = "kubby.dev/test:1";

/// The parts of the image.
pub struct Image {
    /// One layer, a tar file as it is.
    pub layer: Vec<u8>,
    /// The configuration, JSON.
    pub config: Vec<u8>,
    /// The manifest for registries, JSON.
    pub manifest: Vec<u8>,
}

/// Returns `sha256:` and the digest.
pub fn digest(content: &[u8]) -> String {
    let hex: String = Sha256::digest(content)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("sha256:{hex}")
}

/// Returns the image; its program is built once.
pub fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let layer = layer(&program());
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": ["/bin/app"], "Cmd": ["serve"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        });
        let config = config.to_string().into_bytes();
        let part = |kind: &str, content: &[u8]| {
            json!({
                "mediaType": format!("application/vnd.oci.image.{kind}"),
                "digest": digest(content),
                "size": content.len(),
            })
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": part("config.v1+json", &config),
            "layers": [part("layer.v1.tar", &layer)],
        });
        Image {
            layer,
            config,
            manifest: manifest.to_string().into_bytes(),
        }
    })
}

fn program() -> Vec<u8> {
    go_program("testimage")
}

/// Builds the Go program in a folder beside these tests, static, for this machine's architecture.
pub fn go_program(folder: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("app");
    let source = format!("{}/tests/e2e/{folder}", env!("CARGO_MANIFEST_DIR"));
    let go = ["/usr/local/go/bin/go", "/usr/lib/go/bin/go"];
    let go = go.iter().find(|p| std::path::Path::new(p).exists());
    let mut command = Command::new(go.unwrap_or(&"go"));
    command
        .current_dir(source)
        .args(["build", "-trimpath", "-ldflags=-s -w", "-o"])
        .arg(&file)
        .arg(".")
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-mod=mod");
    Run::of(command).ok();
    std::fs::read(&file).expect("the program")
}

fn layer(program: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut directory = tar::Header::new_ustar();
    directory.set_entry_type(tar::EntryType::Directory);
    directory.set_size(0);
    for (name, mode) in [("bin/", 0o755), ("tmp/", 0o777)] {
        directory.set_mode(mode);
        archive
            .append_data(&mut directory, name, &[][..])
            .expect("a folder");
    }
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o755);
    header.set_size(program.len() as u64);
    archive
        .append_data(&mut header, "bin/app", program)
        .expect("the program");
    for name in ["tar", "cat", "echo", "lines", "resolve"] {
        let mut link = tar::Header::new_ustar();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        archive
            .append_link(&mut link, format!("bin/{name}"), "app")
            .expect("a link");
    }
    archive.into_inner().expect("the layer")
}

/// Returns the image as one file for `ctr images import` and `docker load`. It says where it comes from,
/// which gives it another id than the one in registries: of an id that it has pulled before, the
/// kubelet wants to see that it can be pulled under each new name as well.
fn docker_archive(name: &str) -> Vec<u8> {
    let image = image();
    let mut config: Value = serde_json::from_slice(&image.config).expect("JSON");
    config["author"] = "loaded from a file".into();
    let config = config.to_string().into_bytes();
    let manifest: Value =
        json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    let mut archive = tar::Builder::new(Vec::new());
    for (file, content) in [
        ("layer.tar", image.layer.as_slice()),
        ("config.json", &config),
        ("manifest.json", manifest.to_string().as_bytes()),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        archive
            .append_data(&mut header, file, content)
            .expect("a part");
    }
    archive.into_inner().expect("the archive")
}

/// Puts the image into the node of the group's cluster.
pub fn load(env: &Env) {
    env.once("the test image", || import(env));
}

fn import(env: &Env) {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("image.tar");
    std::fs::write(&file, docker_archive(NAME)).expect("the archive");
    let mut command = env.kubby_command();
    command
        .args(["-p", &env.profile, "ssh", "--"])
        .arg("ctr --namespace k8s.io images import --local -")
        .stdin(std::fs::File::open(&file).expect("the archive"));
    Run::of(command).ok();
}
