//! The file's first member: what the template is, and what every other member must be.

use std::io::Read;

use serde::{Deserialize, Serialize};

use super::place::Place;
use crate::assets::{components, node_image};
use crate::cluster::saved::state::Saved;
use crate::error::{Error, Result};

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
    /// The volumes that the disk's layer was made over.
    pub base: Base,
    /// All other members, in their order.
    pub members: Vec<Member>,
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
    let whole = header
        .saved
        .memory
        .as_ref()
        .is_some_and(|memory| memory.digest.is_some() && memory.devices_digest.is_some());
    let members: Option<Vec<Place>> = header.members.iter().map(|m| Place::of(&m.path)).collect();
    let needed = [Place::Memory, Place::Devices, Place::Disk];
    let complete = members.is_some_and(|members| needed.iter().all(|n| members.contains(n)));
    if !whole || !complete || !is_key(&header.key) {
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
