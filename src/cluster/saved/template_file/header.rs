//! The file's first member: what the template is, and what every other member must be.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::place::Place;
use crate::assets::{components, node_image};
use crate::cluster::saved::state::{MANIFEST, Saved};
use crate::error::{Error, Result};
use crate::name;

/// The version of the file's format.
pub(crate) const FORMAT: u32 = 1;

/// The name of the first member.
pub(crate) const HEADER: &str = "kubby-template.json";

/// The largest header that is read, in bytes.
const HEADER_LIMIT: u64 = 1 << 20;

/// The first member.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    /// [`FORMAT`].
    pub format: u32,
    /// The template's key.
    pub key: String,
    /// The template's manifest, as it was on the host that exported it.
    pub saved: Saved,
    /// The manifests of its other nodes, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Saved>,
    /// The volumes that the disk's layer was made over.
    pub base: Base,
    /// All other members, in their order.
    pub members: Vec<Member>,
}

impl Header {
    /// Returns the manifests of all nodes, the first one's first.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Saved> {
        std::iter::once(&self.saved).chain(&self.others)
    }

    /// Returns whether the manifests are those of the nodes in the first one's profile, and every machine is
    /// whole. The nodes' names become names of folders.
    fn is_whole(&self) -> bool {
        let first = &self.saved;
        let nodes = &first.profile.nodes;
        let mut names = BTreeSet::new();
        let mut each = nodes.iter().zip(self.parts()).enumerate();
        let good = each.all(|(index, (node, saved))| {
            let alone = index == 0 || saved.profile.nodes.len() == 1;
            let memory = saved.memory.as_ref();
            let same_origin = saved.host == first.host
                && saved.profile.kubby == first.profile.kubby
                && saved.profile.assets == first.profile.assets;
            alone
                && same_origin
                && saved.profile.nodes.first() == Some(node)
                && name::checked(&node.name, "a node").is_ok()
                && names.insert(&node.name)
                && memory.is_some_and(|m| m.digest.is_some() && m.devices_digest.is_some())
        });
        let members: Option<Vec<Place>> = self.members.iter().map(|m| Place::of(&m.path)).collect();
        let Some(members) = members else {
            return false;
        };
        let count = self.parts().count();
        let has = |place: fn(usize) -> Place| (0..count).all(|node| members.contains(&place(node)));
        let belongs = |place: &Place| match place {
            Place::Memory(node) | Place::Devices(node) | Place::Disk(node) => *node < count,
            Place::Beside(path) => self.may_be_beside(path),
            Place::NodeImage(_) | Place::Components(_) => true,
        };
        good && nodes.len() == count
            && [Place::Memory, Place::Devices, Place::Disk]
                .into_iter()
                .all(has)
            && members.iter().all(belongs)
    }

    /// Returns whether a file belongs beside the machines: it is not a manifest, which the header has, nor of a
    /// node that the template has not.
    fn may_be_beside(&self, path: &Path) -> bool {
        let parts = path.iter().map(|part| part.to_string_lossy().into_owned());
        let parts: Vec<String> = parts.collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match parts.as_slice() {
            [MANIFEST] | ["nodes"] | ["nodes", _] | ["nodes", _, MANIFEST] => false,
            ["nodes", node, ..] => self.others.iter().any(|saved| saved.node() == *node),
            _ => true,
        }
    }
}

/// Digests of the volumes that a machine was saved over. Its memory has parts of them, so volumes
/// with another content under the same name would be a broken machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Base {
    /// Of the node image's disk.
    pub disk: String,
    /// Of the components' volume.
    pub components: String,
}

/// A member and what it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Member {
    /// Its path in the archive.
    pub path: String,
    /// Its size in bytes, holes included.
    pub size: u64,
    /// Its digest, see [`crate::cluster::saved::state::digest_pages`].
    pub digest: String,
}

/// Reads the first member.
pub(crate) fn read<R: Read>(entries: &mut tar::Entries<'_, R>, label: &str) -> Result<Header> {
    let foreign = || Error::usage(format!("{label} is not a template that kubby has exported"));
    let first = entries.next().ok_or_else(foreign)?;
    let first = first.map_err(|e| foreign().with_source(e))?;
    if first.path_bytes().as_ref() != HEADER.as_bytes() {
        return Err(foreign());
    }
    let mut text = Vec::new();
    first
        .take(HEADER_LIMIT)
        .read_to_end(&mut text)
        .map_err(|e| foreign().with_source(e))?;
    #[derive(serde::Deserialize)]
    struct Version {
        format: u32,
    }
    let Version { format } = serde_json::from_slice(&text).map_err(|e| foreign().with_source(e))?;
    if format != FORMAT {
        return Err(Error::usage(format!(
            "{label} was exported by another kubby (format {format}; this one knows {FORMAT})"
        )));
    }
    let header: Header = serde_json::from_slice(&text).map_err(|e| foreign().with_source(e))?;
    if !header.is_whole() || !is_key(&header.key) {
        return Err(foreign());
    }
    // These become names of folders and volumes before the images themselves are looked at.
    let assets = &header.saved.profile.assets;
    node_image::check_key(&assets.node_image)
        .and_then(|()| components::check_key(&assets.components))
        .map_err(|e| foreign().with_source(e))?;
    Ok(header)
}

/// Whether a text is what a template's key looks like; it becomes a folder's name.
fn is_key(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    /// A header as it is exported, and the archive's first member with it.
    fn archive(change: impl FnOnce(&mut Header)) -> Vec<u8> {
        let tmp = tempfile::tempdir().unwrap();
        let mut header = Header {
            format: FORMAT,
            key: "83b4e03c5055f63d".into(),
            saved: crate::cluster::saved::state::tests::example(tmp.path()),
            others: Vec::new(),
            base: Base {
                disk: "d".into(),
                components: "c".into(),
            },
            members: ["machine/memory", "machine/devices", "machine/disk.qcow2"]
                .map(|path| Member {
                    path: path.into(),
                    size: 3,
                    digest: "m".into(),
                })
                .into(),
        };
        header.saved.profile.assets.node_image = "x86_64-1-0a2e756f1eb04fa3-25f8cc0cfcbb".into();
        header.saved.profile.assets.components = "2e57fce90b58".repeat(5);
        change(&mut header);
        let text = serde_json::to_vec(&header).unwrap();
        let mut member = tar::Header::new_gnu();
        member.set_size(text.len() as u64);
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_data(&mut member, HEADER, text.as_slice())
            .unwrap();
        tar.into_inner().unwrap()
    }

    fn read_from(archive: &[u8]) -> Result<Header> {
        read(&mut tar::Archive::new(archive).entries().unwrap(), "a.zst")
    }

    #[test]
    fn images_whose_names_would_lead_elsewhere_are_refused() {
        assert!(read_from(&archive(|_| {})).is_ok());
        for bad in ["", "/etc", "../../x", "a/b", "a\u{0}b"] {
            let image = archive(|h| h.saved.profile.assets.node_image = bad.into());
            let components = archive(|h| h.saved.profile.assets.components = bad.into());
            for changed in [image, components] {
                let e = read_from(&changed).unwrap_err();
                assert_eq!(e.kind(), Kind::Usage, "{bad}");
            }
        }
        let member = archive(|h| h.members[0].path = "beside/../../x".into());
        assert!(read_from(&member).is_err());
    }

    /// Makes the header one of two nodes.
    fn add_worker(header: &mut Header) {
        let mut worker = header.saved.clone();
        worker.profile.nodes[0].name = "worker-1".into();
        let node = worker.profile.nodes[0].clone();
        header.saved.profile.nodes.push(node);
        header.others.push(worker);
        for file in ["memory", "devices", "disk.qcow2"] {
            let mut member = header.members[0].clone();
            member.path = format!("machine-2/{file}");
            header.members.push(member);
        }
    }

    #[test]
    fn the_manifests_are_those_of_the_nodes() {
        let two = |change: fn(&mut Header)| {
            read_from(&archive(|header| {
                add_worker(header);
                change(header);
            }))
        };
        assert_eq!(two(|_| {}).unwrap().parts().count(), 2);
        let beside = |path: &'static str| {
            read_from(&archive(|header| {
                add_worker(header);
                let mut member = header.members[0].clone();
                member.path = format!("beside/{path}");
                header.members.push(member);
            }))
        };
        for good in [
            "pki/ca.crt",
            "nodes/worker-1/pki/a",
            "addons/x/manifest.json",
        ] {
            assert!(beside(good).is_ok(), "{good}");
        }
        for bad in [
            "manifest.json",
            "nodes",
            "nodes/worker-1",
            "nodes/worker-1/manifest.json",
            "nodes/worker-2/pki/a",
        ] {
            assert!(beside(bad).is_err(), "{bad}");
        }
        let changes: [fn(&mut Header); 11] = [
            |h| h.others[0].host.qemu = "other".into(),
            |h| h.others[0].profile.assets.components = "other".into(),
            |h| h.others.clear(),
            |h| drop(h.saved.profile.nodes.pop()),
            |h| h.saved.profile.nodes.clear(),
            |h| h.others[0].profile.nodes[0].name = "worker-2".into(),
            |h| h.others[0].profile.nodes = h.saved.profile.nodes.clone(),
            |h| h.others[0].memory = None,
            |h| h.members.retain(|m| m.path != "machine-2/devices"),
            |h| h.members[0].path = "machine-3/memory".into(),
            |h| {
                let kubby = h.saved.profile.nodes[0].clone();
                h.saved.profile.nodes[1] = kubby.clone();
                h.others[0].profile.nodes = vec![kubby];
            },
        ];
        for (index, change) in changes.into_iter().enumerate() {
            assert_eq!(two(change).unwrap_err().kind(), Kind::Usage, "{index}");
        }
        for bad in ["", "..", "../x", "/etc", "a/b", "A"] {
            let e = read_from(&archive(|header| {
                add_worker(header);
                header.saved.profile.nodes[1].name = bad.into();
                header.others[0].profile.nodes[0].name = bad.into();
            }));
            assert_eq!(e.unwrap_err().kind(), Kind::Usage, "{bad}");
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
