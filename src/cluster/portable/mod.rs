//! Warm templates as one file, to carry them from one host or CI job to another: `kubby template
//! export` and `kubby template import`.
//!
//! The file is a tar compressed with zstd. Its first member says what the template is and what
//! every other member must be; those are the memory, the devices and the disk's layer, the keys and
//! certificates, and, unless left out, the node image and the components that they build on.

mod export;
mod import;
mod pages;

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::saved::Saved;

pub use export::export;
pub use import::{ImportOptions, import};

/// The version of the file's format.
const FORMAT: u32 = 1;

/// The name of the first member.
const HEADER: &str = "kubby-template.json";

/// The compression: the quickest, since memory gives most of what it can give at once.
const LEVEL: i32 = 1;

const MEMORY: &str = "machine/memory";
const DEVICES: &str = "machine/devices";
const DISK: &str = "machine/disk.qcow2";
/// The folder with what lies beside the machine: keys, certificates, add-ons.
const BESIDE: &str = "beside";
const NODE_IMAGE: &str = "node-image";
const COMPONENTS: &str = "components";

/// The first member.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    /// [`FORMAT`].
    format: u32,
    /// The template's key.
    key: String,
    /// The template's manifest, as it was on the host that exported it.
    saved: Saved,
    /// What the disk's layer was made over.
    base: Base,
    /// All other members, in their order.
    members: Vec<Member>,
}

/// Digests of the volumes that a machine was saved over. Its memory has parts of them, so volumes
/// with another content under the same name would be a broken machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Base {
    /// Of the node image's disk.
    disk: String,
    /// Of the components' volume.
    components: String,
}

/// A member and what it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Member {
    /// Its path in the archive.
    path: String,
    /// Its size in bytes, holes included.
    size: u64,
    /// Its digest, see [`crate::saved::digest_pages`].
    digest: String,
}

/// Where a member goes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Memory,
    Devices,
    Disk,
    /// Beside the machine, at this path.
    Beside(PathBuf),
    /// In the cache entry of the node image.
    NodeImage(PathBuf),
    /// In the cache entry of the components.
    Components(PathBuf),
}

impl Place {
    /// The place of a path in the archive; nothing for one that no template has, such as one that
    /// leads elsewhere.
    fn of(path: &str) -> Option<Self> {
        match path {
            MEMORY => return Some(Place::Memory),
            DEVICES => return Some(Place::Devices),
            DISK => return Some(Place::Disk),
            _ => {}
        }
        let (folder, rest) = path.split_once('/')?;
        let rest = Path::new(rest);
        let plain = rest.components().all(|c| matches!(c, Component::Normal(_)));
        // What is not normalised would be another name for the same file.
        if rest.as_os_str().is_empty()
            || !plain
            || rest.components().collect::<PathBuf>().as_os_str() != rest.as_os_str()
        {
            return None;
        }
        let rest = rest.to_owned();
        match folder {
            BESIDE => Some(Place::Beside(rest)),
            NODE_IMAGE => Some(Place::NodeImage(rest)),
            COMPONENTS => Some(Place::Components(rest)),
            _ => None,
        }
    }
}

/// Whether a text is what a template's key looks like; it becomes a folder's name.
fn is_key(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_go_to_their_places_and_nowhere_else() {
        assert_eq!(Place::of("machine/memory"), Some(Place::Memory));
        assert_eq!(
            Place::of("beside/pki/etcd/ca.crt"),
            Some(Place::Beside("pki/etcd/ca.crt".into()))
        );
        assert_eq!(
            Place::of("components/bin/kubectl"),
            Some(Place::Components("bin/kubectl".into()))
        );
        for bad in [
            "",
            "machine/other",
            "beside",
            "beside/",
            "beside//etc/passwd",
            "beside/../../x",
            "beside/a/../b",
            "beside/./a",
            "beside/a//b",
            "node-image/a/",
            "/etc/passwd",
            "elsewhere/a",
        ] {
            assert_eq!(Place::of(bad), None, "{bad}");
        }
    }

    #[test]
    fn keys_are_safe_names() {
        assert!(is_key("83b4e03c5055f63d"));
        for bad in [
            "",
            "83b4e03c5055f63",
            "../../../../../..",
            "83B4E03C5055F63D",
        ] {
            assert!(!is_key(bad), "{bad}");
        }
    }
}
