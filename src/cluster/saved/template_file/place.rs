//! The places of a template file's members.

use std::path::{Component, Path, PathBuf};

/// The compression: the quickest, since memory gives most of what it can give at once.
pub(super) const LEVEL: i32 = 1;

/// The names of a machine's files in its folder.
pub(super) const MEMORY: &str = "memory";
pub(super) const DEVICES: &str = "devices";
pub(super) const DISK: &str = "disk.qcow2";
/// The folder of the first node's machine; those of the others have their numbers after it, from 2 on.
const MACHINE: &str = "machine";
/// The folder with what lies beside the machines: keys, certificates, add-ons.
pub(super) const BESIDE: &str = "beside";
pub(super) const NODE_IMAGE: &str = "node-image";
pub(super) const COMPONENTS: &str = "components";

/// The place of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The memory of a node's machine, with the node's place in the cluster. So are the next two.
    Memory(usize),
    Devices(usize),
    Disk(usize),
    /// Beside the machines, at this path.
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
        let (folder, rest) = path.split_once('/')?;
        if let Some(node) = node_of(folder) {
            return match rest {
                MEMORY => Some(Place::Memory(node)),
                DEVICES => Some(Place::Devices(node)),
                DISK => Some(Place::Disk(node)),
                _ => None,
            };
        }
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

/// Returns the folder of a machine in the archive, by its node's place in the cluster.
pub(super) fn machine(node: usize) -> String {
    match node {
        0 => MACHINE.to_owned(),
        _ => format!("{MACHINE}-{}", node + 1),
    }
}

/// Returns the place in the cluster of the node whose machine has this folder.
fn node_of(folder: &str) -> Option<usize> {
    let rest = folder.strip_prefix(MACHINE)?;
    let node = match rest.strip_prefix('-') {
        Some(number) => number.parse::<u8>().ok()?.checked_sub(1)?.into(),
        None => 0,
    };
    // What is written otherwise would be another name for the same machine.
    (machine(node) == folder).then_some(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_go_to_their_places_and_nowhere_else() {
        assert_eq!(Place::of("machine/memory"), Some(Place::Memory(0)));
        assert_eq!(Place::of("machine-2/devices"), Some(Place::Devices(1)));
        assert_eq!(Place::of("machine-12/disk.qcow2"), Some(Place::Disk(11)));
        for node in [0, 1, 2, 9, 253] {
            let path = format!("{}/{MEMORY}", machine(node));
            assert_eq!(Place::of(&path), Some(Place::Memory(node)));
        }
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
            "machine-0/memory",
            "machine-1/memory",
            "machine-02/memory",
            "machine-+2/memory",
            "machine-/memory",
            "machine-256/memory",
            "machine2/memory",
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
