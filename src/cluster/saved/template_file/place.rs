//! The places of a template file's members.

use std::path::{Component, Path, PathBuf};

/// The compression: the quickest, since memory gives most of what it can give at once.
pub(super) const LEVEL: i32 = 1;

pub(super) const MEMORY: &str = "machine/memory";
pub(super) const DEVICES: &str = "machine/devices";
pub(super) const DISK: &str = "machine/disk.qcow2";
/// The folder with what lies beside the machine: keys, certificates, add-ons.
pub(super) const BESIDE: &str = "beside";
pub(super) const NODE_IMAGE: &str = "node-image";
pub(super) const COMPONENTS: &str = "components";

/// The place of a member.
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
    /// Returns the place of a path in the archive; `None` for one that no template has, such as one that
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
