//! Storage pools and volumes as libvirt's XML, written and read.

use askama::Template;
use roxmltree::Document;

use crate::error::{Error, Kind, Result, ResultExt};

#[derive(Template)]
#[template(path = "pool.xml")]
struct PoolTemplate<'a> {
    name: &'a str,
    target: &'a str,
}

#[derive(Template)]
#[template(path = "volume.xml")]
struct VolumeTemplate<'a> {
    name: &'a str,
    capacity: u64,
    backing: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "disk-snapshot.xml")]
struct DiskSnapshotTemplate<'a> {
    target: &'a str,
    overlay: &'a str,
}

/// Returns the XML of a directory pool. Its directory lets other users pass through (0711), because
/// QEMU runs as a user of its own under `qemu:///system`; the volumes in it are 0600.
///
/// # Errors
/// [`Kind::Usage`] when a text has a control character.
pub(crate) fn pool(name: &str, target: &str) -> Result<String> {
    check_text("pool name", name)?;
    check_text("pool directory", target)?;
    PoolTemplate { name, target }
        .render()
        .context(Kind::Internal, || {
            format!("cannot render the definition of the pool {name}")
        })
}

/// Returns the XML of a volume of `capacity` bytes, nothing of which is allocated yet: a qcow2 overlay
/// of the qcow2 volume at the path `backing`, else raw, which takes a file of any format.
///
/// # Errors
/// [`Kind::Usage`] when a text has a control character.
pub(crate) fn volume(name: &str, capacity: u64, backing: Option<&str>) -> Result<String> {
    check_text("volume name", name)?;
    check_text("path of the backing volume", backing.unwrap_or_default())?;
    VolumeTemplate {
        name,
        capacity,
        backing,
    }
    .render()
    .context(Kind::Internal, || {
        format!("cannot render the definition of the volume {name}")
    })
}

/// Returns the XML that makes libvirt freeze a disk, by its target's name, and write to a new
/// overlay of it.
///
/// # Errors
/// [`Kind::Usage`] when the path has a control character.
pub(crate) fn disk_snapshot(target: &str, overlay: &str) -> Result<String> {
    check_text("path of the overlay", overlay)?;
    DiskSnapshotTemplate { target, overlay }
        .render()
        .context(Kind::Internal, || {
            "cannot render a snapshot of a disk".into()
        })
}

/// Returns the directory of a pool's XML; `None` when it has none.
pub(crate) fn pool_target(xml: &str) -> Option<String> {
    path_below(xml, "target")
}

/// Returns the path of the volume that a volume's XML is based on; `None` when it has none.
pub(crate) fn backing_path(xml: &str) -> Option<String> {
    path_below(xml, "backingStore")
}

fn path_below(xml: &str, parent: &str) -> Option<String> {
    let document = Document::parse(xml).ok()?;
    let parent = document
        .root_element()
        .children()
        .find(|n| n.has_tag_name(parent))?;
    let path = parent.children().find(|n| n.has_tag_name("path"))?.text()?;
    Some(path.to_owned())
}

/// Refuses texts that XML cannot carry unchanged.
pub(super) fn check_text(what: &str, text: &str) -> Result<()> {
    if text
        .chars()
        .any(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
    {
        return Err(Error::usage(format!(
            "the {what} {text:?} has a control character"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_xml() {
        insta::assert_snapshot!(pool("kubby", "/home/user/a&b").unwrap());
    }

    #[test]
    fn raw_volume_xml() {
        insta::assert_snapshot!(volume("node-1", 4096, None).unwrap());
    }

    #[test]
    fn overlay_xml() {
        let xml = volume("dev.qcow2", 1 << 34, Some("/pool/base")).unwrap();
        insta::assert_snapshot!(xml);
    }

    #[test]
    fn disk_snapshot_xml() {
        insta::assert_snapshot!(disk_snapshot("vda", "/pool/a&b").unwrap());
    }

    #[test]
    fn paths_are_read_back() {
        assert_eq!(
            pool_target(&pool("p", "/a&b").unwrap()).as_deref(),
            Some("/a&b")
        );
        let overlay = volume("v", 1, Some("/base")).unwrap();
        assert_eq!(backing_path(&overlay).as_deref(), Some("/base"));
        let raw = volume("v", 1, None).unwrap();
        assert_eq!(backing_path(&raw), None);
        assert_eq!(pool_target("<pool/>"), None);
        assert_eq!(pool_target("nonsense"), None);
    }

    #[test]
    fn control_characters_are_refused() {
        assert!(pool("p\u{1}", "/a").is_err());
        assert!(volume("v\n", 1, None).is_err());
    }
}
