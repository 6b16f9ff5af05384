//! Container images as OCI archives that containerd imports under a given name.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::catalog;
use super::stage::Stage;
use crate::assets::recipes;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::units::hex;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// The level of compression of layers: a quarter of their size in a second. containerd takes in
/// every byte through gRPC, which costs an emulated node more than unpacking: CoreDNS is imported
/// in half the time that it takes uncompressed, and gzip saves next to nothing.
const LEVEL: i32 = 9;

/// Returns the `sha256:…` of a blob.
pub(super) fn digest(blob: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(blob)))
}

/// A program and what its image has besides.
#[derive(Debug)]
pub(super) struct Program<'a> {
    pub path: &'a Path,
    /// The arguments that it gets unless a pod has others.
    pub arguments: &'a [&'a str],
    /// `NAME=value`.
    pub environment: &'a [&'a str],
    /// Paths in the image, without the leading slash, and in the recipe's folder.
    pub files: &'a [(&'a str, &'a str)],
}

impl<'a> Program<'a> {
    /// Returns a program that needs nothing else.
    pub(super) fn alone(path: &'a Path) -> Self {
        Program {
            path,
            arguments: &[],
            environment: &[],
            files: &[],
        }
    }
}

/// Puts the image that runs `program` into the stage, under the reference that [`catalog::IMAGES`]
/// has for `name`.
pub(super) fn pack(program: &Program, name: &str, stage: &mut Stage) -> Result<()> {
    let (reference, arch) = (catalog::reference(name)?, catalog::arch()?);
    let recipe = recipes::files(&format!("components/{name}"));
    write_program_image(&stage.image(name), reference, arch, program, &recipe)?;
    stage
        .references
        .insert(name.to_owned(), reference.to_owned());
    Ok(())
}

/// Puts the archive of an image into the stage, under the reference that the archive names.
pub(super) fn copy(archive: &Path, name: &str, stage: &mut Stage) -> Result<()> {
    stage.references.insert(name.to_owned(), name_of(archive)?);
    fs::copy(archive, stage.image(name)).context(Kind::Assets, || {
        format!("cannot copy {}", archive.display())
    })?;
    Ok(())
}

/// Writes the image `name` that holds a program, at `/NAME-OF-THE-PROGRAM`, and runs it.
fn write_program_image(
    out: &Path,
    name: &str,
    arch: &str,
    program: &Program,
    recipe: &[(String, Vec<u8>)],
) -> Result<()> {
    let fail = || {
        format!(
            "cannot make a container image of {}",
            program.path.display()
        )
    };
    let file_name = program
        .path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let content = fs::read(program.path).context(Kind::Assets, fail)?;
    let mut tar = tar::Builder::new(Vec::with_capacity(content.len() + 8192));
    append(&mut tar, &file_name, 0o755, &content).context(Kind::Assets, fail)?;
    for (path, from) in program.files {
        let content = recipe.iter().find(|(name, _)| name == from);
        let (_, content) =
            content.ok_or_else(|| Error::internal(format!("no recipe for {path}")))?;
        append_parents(&mut tar, Path::new(path)).context(Kind::Assets, fail)?;
        append(&mut tar, path, 0o644, content).context(Kind::Assets, fail)?;
    }
    let layer = tar.into_inner().context(Kind::Assets, fail)?;
    let config = json!({
        "architecture": arch,
        "os": "linux",
        "config": {
            "Entrypoint": [format!("/{file_name}")],
            "Cmd": program.arguments,
            "Env": program.environment,
            "WorkingDir": "/",
        },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    })
    .to_string()
    .into_bytes();
    let layer = zstd::bulk::compress(&layer, LEVEL).context(Kind::Assets, fail)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config),
        "layers": [descriptor(LAYER, &layer)],
    })
    .to_string()
    .into_bytes();
    write_image(out, name, MANIFEST, manifest, vec![config, layer])
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(blob), "size": blob.len() })
}

/// Writes an image out of its manifest and the blobs that this names.
pub(super) fn write_image(
    out: &Path,
    name: &str,
    media_type: &str,
    manifest: Vec<u8>,
    blobs: Vec<Vec<u8>>,
) -> Result<()> {
    let fail = || format!("cannot write {}", out.display());
    let mut entry = descriptor(media_type, &manifest);
    entry["annotations"] = json!({
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rsplit(':').next(),
    });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string();
    let file = BufWriter::new(File::create(out).context(Kind::Assets, fail)?);
    let mut tar = tar::Builder::new(file);
    let mut write = || {
        append(
            &mut tar,
            "oci-layout",
            0o644,
            br#"{"imageLayoutVersion":"1.0.0"}"#,
        )?;
        append(&mut tar, "index.json", 0o644, index.as_bytes())?;
        for blob in std::iter::once(&manifest).chain(&blobs) {
            let path = format!("blobs/{}", digest(blob).replace(':', "/"));
            append(&mut tar, &path, 0o644, blob)?;
        }
        tar.finish()
    };
    write().context(Kind::Assets, fail)?;
    let file = tar.into_inner().context(Kind::Assets, fail)?;
    file.into_inner()
        .map_err(|e| e.into_error())
        .context(Kind::Assets, fail)?;
    Ok(())
}

fn append(
    tar: &mut tar::Builder<impl Write>,
    path: &str,
    mode: u32,
    content: &[u8],
) -> std::io::Result<()> {
    tar.append_data(&mut header(mode, content.len()), path, content)
}

/// Appends the folders that `path` is in, outermost first.
fn append_parents(tar: &mut tar::Builder<impl Write>, path: &Path) -> std::io::Result<()> {
    let mut parents: Vec<&Path> = path.ancestors().skip(1).collect();
    parents.retain(|parent| !parent.as_os_str().is_empty());
    for parent in parents.into_iter().rev() {
        let mut header = header(0o755, 0);
        header.set_entry_type(tar::EntryType::Directory);
        tar.append_data(&mut header, parent, std::io::empty())?;
    }
    Ok(())
}

/// Returns the header of a file of root's, the same at any time.
fn header(mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Returns the name under which containerd imports an image archive, of the OCI or Docker kind.
pub(super) fn name_of(archive: &Path) -> Result<String> {
    let fail = || format!("cannot read the image archive {}", archive.display());
    let mut tar = tar::Archive::new(File::open(archive).context(Kind::Assets, fail)?);
    let mut name = None;
    for entry in tar.entries().context(Kind::Assets, fail)? {
        let entry = entry.context(Kind::Assets, fail)?;
        let path = entry.path().context(Kind::Assets, fail)?.into_owned();
        let path = path.strip_prefix(".").unwrap_or(&path).to_owned();
        let pointer = match path.to_str() {
            Some("index.json") => "/manifests/0/annotations/io.containerd.image.name",
            Some("manifest.json") => "/0/RepoTags/0",
            _ => continue,
        };
        let value: Value =
            serde_json::from_reader(entry.take(1 << 20)).context(Kind::Assets, fail)?;
        name = name.or_else(|| value.pointer(pointer)?.as_str().map(str::to_owned));
    }
    name.ok_or_else(|| {
        Error::assets(format!(
            "the image archive {} has no name in it",
            archive.display()
        ))
        .with_hint("write it with `ctr images export` or `docker save`, by name and tag")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(dir: &Path) -> Vec<u8> {
        fs::write(dir.join("coredns"), "the program").unwrap();
        let out = dir.join("x.tar");
        let path = dir.join("coredns");
        let program = Program {
            arguments: &["serve", "/etc/dns/conf"],
            environment: &["A=b"],
            files: &[("etc/dns/conf", "conf")],
            ..Program::alone(&path)
        };
        let recipe = [("conf".to_owned(), b"settings".to_vec())];
        write_program_image(&out, "reg.io/core/dns:v1", "amd64", &program, &recipe).unwrap();
        fs::read(out).unwrap()
    }

    #[test]
    fn an_image_is_whole_and_the_same_each_time() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let bytes = image(one.path());
        assert!(bytes == image(two.path()), "not reproducible");
        let mut tar = tar::Archive::new(&bytes[..]);
        let mut blobs = std::collections::BTreeMap::new();
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            if let Some(hash) = path.strip_prefix("blobs/sha256/") {
                assert_eq!(digest(&content), format!("sha256:{hash}"));
            }
            blobs.insert(path, content);
        }
        let get = |d: &Value| -> Value {
            let path = format!("blobs/{}", d["digest"].as_str().unwrap().replace(':', "/"));
            assert_eq!(d["size"], blobs[&path].len());
            serde_json::from_slice(&blobs[&path]).unwrap_or_default()
        };
        let index: Value = serde_json::from_slice(&blobs["index.json"]).unwrap();
        let manifest = get(&index["manifests"][0]);
        let config = get(&manifest["config"]);
        assert_eq!(config["config"]["Entrypoint"], json!(["/coredns"]));
        assert_eq!(config["config"]["Cmd"], json!(["serve", "/etc/dns/conf"]));
        assert_eq!(config["config"]["Env"], json!(["A=b"]));
        get(&manifest["layers"][0]);
        let layer = manifest["layers"][0]["digest"].as_str().unwrap();
        let layer = &blobs[&format!("blobs/{}", layer.replace(':', "/"))];
        let layer = zstd::stream::decode_all(&layer[..]).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], digest(&layer));
        let modes: Vec<(String, u32, u64)> = tar::Archive::new(&layer[..])
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let path = entry.path().unwrap().to_string_lossy().into_owned();
                (path, entry.header().mode().unwrap(), entry.size())
            })
            .collect();
        let wanted = [
            ("coredns", 0o755, 11),
            ("etc", 0o755, 0),
            ("etc/dns", 0o755, 0),
            ("etc/dns/conf", 0o644, 8),
        ];
        assert_eq!(
            modes,
            wanted.map(|(path, mode, size)| (path.into(), mode, size))
        );
    }

    #[test]
    fn names_are_found_in_both_kinds_of_archives() {
        let dir = tempfile::tempdir().unwrap();
        image(dir.path());
        assert_eq!(
            name_of(&dir.path().join("x.tar")).unwrap(),
            "reg.io/core/dns:v1"
        );
        for (content, name) in [
            (r#"[{"RepoTags":["a/b:c"]}]"#, Some("a/b:c")),
            (r#"[{"RepoTags":[]}]"#, None),
        ] {
            let out = dir.path().join("d.tar");
            let mut tar = tar::Builder::new(File::create(&out).unwrap());
            append(&mut tar, "manifest.json", 0o644, content.as_bytes()).unwrap();
            tar.finish().unwrap();
            assert_eq!(name_of(&out).ok().as_deref(), name);
        }
    }
}
