//! Container images of single programs, as archives that containerd imports. Layers are compressed
//! as those of kubby's own components, so that importing costs the same.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use kubby::testing::assets::components::arch;
use kubby::testing::error::{Kind, Result, ResultExt};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const LEVEL: i32 = 9;

/// A layer of an image.
#[derive(Clone)]
pub struct Layer {
    /// The digest of what is compressed.
    id: String,
    blob: Vec<u8>,
}

impl Layer {
    /// Programs, then symbolic links: `(path in the image, what is there)`.
    ///
    /// # Errors
    /// When a program cannot be read.
    pub fn of(programs: &[(&str, &Path)], links: &[(&str, &str)]) -> Result<Self> {
        let fail = || "cannot make a container image".to_owned();
        let mut tar = tar::Builder::new(Vec::new());
        for (path, file) in programs {
            let content = std::fs::read(file)
                .context(Kind::Assets, || format!("cannot read {}", file.display()))?;
            let mut header = header(0o755, content.len());
            tar.append_data(&mut header, path, content.as_slice())
                .context(Kind::Assets, fail)?;
        }
        for (path, target) in links {
            let mut header = header(0o777, 0);
            header.set_entry_type(tar::EntryType::Symlink);
            tar.append_link(&mut header, path, target)
                .context(Kind::Assets, fail)?;
        }
        let plain = tar.into_inner().context(Kind::Assets, fail)?;
        Ok(Layer {
            id: digest(&plain),
            blob: zstd::bulk::compress(&plain, LEVEL).context(Kind::Assets, fail)?,
        })
    }
}

/// An archive of several images; what they have in common is in it once.
#[derive(Default)]
pub struct Archive {
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: Vec<Value>,
}

impl Archive {
    /// Adds the image `name`.
    ///
    /// # Errors
    /// On processors that there is no Kubernetes for.
    pub fn image(
        &mut self,
        name: &str,
        layers: &[Layer],
        entrypoint: &[&str],
        path: &str,
    ) -> Result<()> {
        let ids: Vec<&str> = layers.iter().map(|layer| layer.id.as_str()).collect();
        let config = json!({
            "architecture": arch()?,
            "os": "linux",
            "config": {"Entrypoint": entrypoint, "Env": [format!("PATH={path}")]},
            "rootfs": {"type": "layers", "diff_ids": ids},
        });
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| self.blob(LAYER, layer.blob.clone()))
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(CONFIG, config.to_string().into_bytes()),
            "layers": layers,
        });
        let mut entry = self.blob(MANIFEST, manifest.to_string().into_bytes());
        entry["annotations"] = json!({
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": name.rsplit(':').next(),
        });
        self.manifests.push(entry);
        Ok(())
    }

    fn blob(&mut self, media_type: &str, blob: Vec<u8>) -> Value {
        let digest = digest(&blob);
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": blob.len()});
        self.blobs.insert(digest, blob);
        descriptor
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn write(self, out: &Path) -> Result<()> {
        let fail = || format!("cannot write {}", out.display());
        let index = json!({"schemaVersion": 2, "manifests": self.manifests}).to_string();
        let file = File::create(out).context(Kind::Assets, fail)?;
        let mut tar = tar::Builder::new(std::io::BufWriter::new(file));
        let mut write = || -> std::io::Result<()> {
            let layout: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
            for (path, content) in [("oci-layout", layout), ("index.json", index.as_bytes())] {
                tar.append_data(&mut header(0o644, content.len()), path, content)?;
            }
            for (digest, blob) in &self.blobs {
                let path = format!("blobs/{}", digest.replace(':', "/"));
                tar.append_data(&mut header(0o644, blob.len()), path, blob.as_slice())?;
            }
            tar.finish()?;
            tar.get_mut().flush()
        };
        write().context(Kind::Assets, fail)
    }
}

fn header(mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn digest(blob: &[u8]) -> String {
    let hash = Sha256::digest(blob);
    let hex: String = hash.iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}
