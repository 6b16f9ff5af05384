//! Warm templates as one file, to carry them from one host or CI job to another: `kubby template
//! export` and `kubby template import`.
//!
//! The file is a tar compressed with zstd. Its first member says what the template is and what
//! every other member must be; those are the memory, the devices and the disk's layer, the keys and
//! certificates, and, unless left out, the node image and the components that they build on.

mod export;
pub(crate) mod header;
mod import;
mod pages;
mod stream;

use std::path::{Component, Path, PathBuf};

pub use export::export;
pub use import::{ImportOptions, import};

/// The compression: the quickest, since memory gives most of what it can give at once.
const LEVEL: i32 = 1;

const MEMORY: &str = "machine/memory";
const DEVICES: &str = "machine/devices";
const DISK: &str = "machine/disk.qcow2";
/// The folder with what lies beside the machine: keys, certificates, add-ons.
const BESIDE: &str = "beside";
const NODE_IMAGE: &str = "node-image";
const COMPONENTS: &str = "components";

/// Where a member goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
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
    pub(crate) fn of(path: &str) -> Option<Self> {
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
}
