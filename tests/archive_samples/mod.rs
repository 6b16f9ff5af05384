//! Archives of container images, made here in all the ways that tools write them.

#![allow(dead_code, clippy::allow_attributes, reason = "each test uses a part")]

use std::io::Write;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

pub fn hex(data: &[u8]) -> String {
    Sha256::digest(data)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

pub fn digest(data: &[u8]) -> String {
    format!("sha256:{}", hex(data))
}

/// A layer with these files: path, mode, content.
pub fn layer(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, mode, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        header.set_cksum();
        tar.append_data(&mut header, path, *content)
            .expect("a layer");
    }
    tar.into_inner().expect("a layer")
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).expect("gzip");
    encoder.finish().expect("gzip")
}

pub fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(data, 1).expect("zstd")
}

/// An image of some layers.
pub struct Image {
    pub config: Vec<u8>,
    /// As they are stored, perhaps compressed.
    pub layers: Vec<Vec<u8>>,
}

impl Image {
    /// `layers` are plain; `entrypoint` is what the image runs.
    pub fn new(arch: &str, layers: Vec<Vec<u8>>, entrypoint: &[&str]) -> Self {
        let diff_ids: Vec<String> = layers.iter().map(|l| digest(l)).collect();
        let config = json!({
            "architecture": arch,
            "os": "linux",
            "config": {"Entrypoint": entrypoint, "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        Image {
            config: config.to_string().into_bytes(),
            layers,
        }
    }

    /// A small one of two layers.
    pub fn small(arch: &str) -> Self {
        let one = layer(&[("etc/one", 0o644, b"one\n")]);
        let two = layer(&[("etc/two", 0o644, &[7; 3000])]);
        Image::new(arch, vec![one, two], &["/bin/none"])
    }

    pub fn compressed(mut self, how: fn(&[u8]) -> Vec<u8>) -> Self {
        self.layers = self.layers.iter().map(|l| how(l)).collect();
        self
    }

    pub fn id(&self) -> String {
        digest(&self.config)
    }

    pub fn manifest(&self) -> Vec<u8> {
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|l| {
                let media_type = match l[..] {
                    [0x1f, 0x8b, ..] => format!("{LAYER}+gzip"),
                    [0x28, 0xb5, ..] => format!("{LAYER}+zstd"),
                    _ => LAYER.to_owned(),
                };
                descriptor(&media_type, l)
            })
            .collect();
        json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &self.config),
            "layers": layers,
        })
        .to_string()
        .into_bytes()
    }

    /// Manifest, configuration and layers as the files of an OCI layout.
    pub fn blobs(&self) -> Vec<(String, Vec<u8>)> {
        let mut blobs = vec![self.manifest(), self.config.clone()];
        blobs.extend(self.layers.iter().cloned());
        blobs.into_iter().map(blob).collect()
    }
}

pub fn descriptor(media_type: &str, data: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(data), "size": data.len()})
}

pub fn blob(data: Vec<u8>) -> (String, Vec<u8>) {
    (format!("blobs/sha256/{}", hex(&data)), data)
}

pub fn index(manifests: &[Value]) -> Vec<u8> {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
        .to_string()
        .into_bytes()
}

/// The last files of an OCI layout.
pub fn layout(manifests: &[Value]) -> Vec<(String, Vec<u8>)> {
    vec![
        ("index.json".into(), index(manifests)),
        (
            "oci-layout".into(),
            br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
        ),
    ]
}

/// The files of an OCI layout with one image, as containerd and buildx write it.
pub fn oci_files(image: &Image, name: Option<&str>) -> Vec<(String, Vec<u8>)> {
    let mut entry = descriptor(MANIFEST, &image.manifest());
    if let Some(name) = name {
        entry["annotations"] = json!({"io.containerd.image.name": name});
    }
    let mut files = image.blobs();
    files.extend(layout(&[entry]));
    files
}

/// The files of `docker save` before version 25.
pub fn docker_files(image: &Image, names: &[&str]) -> Vec<(String, Vec<u8>)> {
    let config = format!("{}.json", hex(&image.config));
    let mut files = vec![(config.clone(), image.config.clone())];
    let mut layers = Vec::new();
    for (n, layer) in image.layers.iter().enumerate() {
        let name = format!("{}/layer.tar", hex(&[n as u8]));
        files.push((name.clone(), layer.clone()));
        layers.push(name);
    }
    let manifest = json!([{"Config": config, "RepoTags": names, "Layers": layers}]);
    files.push(("manifest.json".into(), manifest.to_string().into_bytes()));
    files.push(("repositories".into(), b"{}".to_vec()));
    files
}

/// A tar archive of these files.
pub fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        raw(&mut tar, path, tar::EntryType::Regular, "", content);
    }
    tar.into_inner().expect("an archive")
}

/// Appends an entry under a name that need not be a good one.
pub fn raw<W: Write>(
    tar: &mut tar::Builder<W>,
    path: &str,
    kind: tar::EntryType,
    link: &str,
    content: &[u8],
) {
    let mut header = tar::Header::new_gnu();
    let name = &mut header.as_gnu_mut().expect("a header").name;
    name[..path.len()].copy_from_slice(path.as_bytes());
    let target = &mut header.as_gnu_mut().expect("a header").linkname;
    target[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append(&header, content).expect("an entry");
}
