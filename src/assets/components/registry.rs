//! Fetches a small image from a registry, by the distribution API, into an OCI archive.

use std::path::Path;

use serde_json::Value;

use super::{catalog, oci};
use crate::assets::download::{self, Limits, VerifyingReader};
use crate::error::{Error, Kind, Result, ResultExt};

/// No manifest is bigger, says the specification's advice to registries.
const MOST_MANIFEST: u64 = 4 << 20;
/// The images fetched here are of a few hundred kilobytes; they are kept in memory.
const MOST_BLOB: u64 = 64 << 20;

const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Fetches the image `name` with this tag, for this host's architecture, from the registry at `base`
/// and writes it to `out` under the name `as_name`.
/// Whatever is named by a digest is checked against it.
pub(super) fn fetch(
    base: &str,
    name: &str,
    tag: &str,
    as_name: &str,
    out: &Path,
    limits: &Limits,
) -> Result<()> {
    let arch = catalog::arch()?;
    let root = format!("{base}/v2/{name}");
    let shown = download::printable(&root);
    let bad = |why: &str| {
        let message = format!("cannot use the image {shown}:{tag}: {why}");
        Error::assets(message)
    };
    let parse = |bytes: &[u8]| -> Result<Value> {
        serde_json::from_slice(bytes).context(Kind::Assets, || {
            format!("{shown}/manifests/{tag} is not JSON")
        })
    };
    let get = |url: &str, most: u64| download::fetch_bytes(url, ACCEPT, most, limits);
    let verified = |kind: &str, descriptor: &Value, most: u64| {
        let digest = digest_of(descriptor)
            .ok_or_else(|| bad("it names something without a SHA-256 digest"))?;
        let url = format!("{root}/{kind}/{digest}");
        let bytes = get(&url, most)?;
        let digest = digest.trim_start_matches("sha256:");
        VerifyingReader::new(&bytes[..], digest, &url).finish()?;
        Ok::<Vec<u8>, Error>(bytes)
    };

    let tagged = get(&format!("{root}/manifests/{tag}"), MOST_MANIFEST)?;
    let top = parse(&tagged)?;
    let (manifest, bytes) = match top["manifests"].as_array() {
        Some(all) => {
            let wanted = all
                .iter()
                .find(|m| is_for(m, arch))
                .ok_or_else(|| bad(&format!("there is none for linux/{arch}")))?;
            let bytes = verified("manifests", wanted, MOST_MANIFEST)?;
            (parse(&bytes)?, bytes)
        }
        None => (top, tagged),
    };
    let layers = manifest["layers"]
        .as_array()
        .ok_or_else(|| bad("its manifest has no layers"))?;
    let blobs = std::iter::once(&manifest["config"])
        .chain(layers)
        .map(|descriptor| verified("blobs", descriptor, MOST_BLOB))
        .collect::<Result<Vec<_>>>()?;
    let media_type = manifest["mediaType"]
        .as_str()
        .unwrap_or("application/vnd.oci.image.manifest.v1+json");
    oci::write_image(out, as_name, media_type, bytes, blobs)
}

/// Returns the digest of a descriptor, if it is one that is safe in a URL and can be verified.
fn digest_of(descriptor: &Value) -> Option<&str> {
    let digest = descriptor["digest"].as_str()?;
    download::is_sha256(digest.strip_prefix("sha256:")?).then_some(digest)
}

fn is_for(descriptor: &Value, arch: &str) -> bool {
    let platform = &descriptor["platform"];
    platform["os"] == "linux" && platform["architecture"] == arch
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_sha256_digests_are_taken() {
        let good = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(digest_of(&json!({ "digest": good })), Some(&*good));
        for bad in [
            json!({}),
            json!({ "digest": "sha256:../../x" }),
            json!({ "digest": "md5:00" }),
        ] {
            assert_eq!(digest_of(&bad), None, "{bad}");
        }
    }
}
