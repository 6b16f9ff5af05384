//! The header of a qcow2 file: what kubby must know before QEMU opens a file from elsewhere.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Error, Kind, Result, ResultExt};

const MAGIC: &[u8; 4] = b"QFI\xfb";

/// The features of version 3 that a node image may use: a dirty flag and another compression.
/// Not among them: a corrupt flag, data in another file, extended clusters.
const ALLOWED_INCOMPATIBLE: u64 = 0b0_1001;

/// No node image is larger than this, in bytes; a larger number is a broken or hostile header.
const LARGEST: u64 = 1 << 40;

/// Reads the virtual size in bytes, and refuses whatever a self-contained disk image is not.
///
/// The header alone decides whether QEMU opens other files for this one, so it is read here
/// rather than given to a program that may already follow it.
///
/// # Errors
/// [`Kind::Assets`] when the file is not qcow2, refers to other files (which could be any file
/// of the host), is encrypted, or needs features that a node image has no use for.
pub(super) fn virtual_size(path: &Path) -> Result<u64> {
    read(path, Backing::None)
}

/// Refuses what an overlay from elsewhere is not, whose backing file is about to be replaced in
/// its header.
///
/// # Errors
/// As [`virtual_size`], but for the backing file.
pub(crate) fn check_overlay(path: &Path) -> Result<()> {
    read(path, Backing::Replaced).map(drop)
}

/// Whether a disk may build on another file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backing {
    /// No.
    None,
    /// Yes, since its name in the header is about to be replaced.
    Replaced,
}

fn read(path: &Path, backing: Backing) -> Result<u64> {
    let mut header = Vec::new();
    File::open(path)
        .and_then(|file| file.take(104).read_to_end(&mut header))
        .context(Kind::Assets, || format!("cannot read {}", path.display()))?;
    parse(&header, backing).map_err(|why| Error::assets(format!("{} {why}", path.display())))
}

/// Returns the virtual size in bytes that a header says, or why it is refused.
pub(crate) fn parse(header: &[u8], backing: Backing) -> Result<u64, String> {
    let u32_at = |at: usize| -> Option<u32> {
        Some(u32::from_be_bytes(header.get(at..at + 4)?.try_into().ok()?))
    };
    let u64_at = |at: usize| -> Option<u64> {
        Some(u64::from_be_bytes(header.get(at..at + 8)?.try_into().ok()?))
    };
    let short = || "is cut off: its qcow2 header is not complete".to_owned();
    if header.get(..4) != Some(MAGIC) {
        return Err("is not a qcow2 disk image".to_owned());
    }
    let version = u32_at(4).ok_or_else(short)?;
    if !(2..=3).contains(&version) {
        return Err(format!("is qcow2 of version {version}; only 2 and 3 exist"));
    }
    if u64_at(8).ok_or_else(short)? != 0 && backing == Backing::None {
        return Err("needs a backing file, and an image from elsewhere must stand alone".into());
    }
    let size = u64_at(24).ok_or_else(short)?;
    if size == 0 || size > LARGEST {
        return Err(format!(
            "says that its disk has {size} bytes, which cannot be"
        ));
    }
    if u32_at(32).ok_or_else(short)? != 0 {
        return Err("is encrypted".to_owned());
    }
    if version == 3 {
        let features = u64_at(72).ok_or_else(short)?;
        if features & 0b100 != 0 {
            return Err(
                "keeps its data in another file, and an image from elsewhere must stand alone"
                    .into(),
            );
        }
        if features & 0b10 != 0 {
            return Err("is marked as corrupt".to_owned());
        }
        if features & !ALLOWED_INCOMPATIBLE != 0 {
            return Err(format!(
                "needs qcow2 features that kubby does not use ({features:#x})"
            ));
        }
    }
    Ok(size)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns a valid header, version 3, for a disk of 1 GiB.
    pub(in super::super) fn header() -> Vec<u8> {
        let mut h = vec![0; 104];
        h[..4].copy_from_slice(MAGIC);
        h[7] = 3;
        h[24..32].copy_from_slice(&(1u64 << 30).to_be_bytes());
        h
    }

    #[test]
    fn a_plain_image_has_its_size() {
        assert_eq!(parse(&header(), Backing::None), Ok(1 << 30));
        let mut dirty_zstd = header();
        dirty_zstd[79] = 0b1001;
        assert_eq!(parse(&dirty_zstd, Backing::None), Ok(1 << 30));
    }

    #[test]
    fn what_a_node_image_is_not_is_refused() {
        let table: [(&str, usize, u8); 8] = [
            ("is not a qcow2", 0, b'X'),
            ("of version 4", 7, 4),
            ("backing file", 15, 104),
            ("backing file", 8, 1),
            ("cannot be", 24, 0x80),
            ("encrypted", 35, 2),
            ("another file", 79, 0b100),
            ("features", 79, 0b1_0000),
        ];
        for (why, at, value) in table {
            let mut h = header();
            h[at] = value;
            let e = parse(&h, Backing::None).unwrap_err();
            assert!(e.contains(why), "{why}: {e}");
        }
        assert!(
            parse(&header()[..40], Backing::None)
                .unwrap_err()
                .contains("cut off")
        );
        assert!(parse(b"QF", Backing::None).is_err());
    }

    #[test]
    fn what_qemu_makes_is_judged_by_its_header() {
        let dir = tempfile::tempdir().unwrap();
        let make = |args: &[&str]| {
            let status = std::process::Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2"])
                .args(args)
                .current_dir(&dir)
                .status()
                .unwrap();
            assert!(status.success(), "{args:?}");
        };
        make(&["plain.qcow2", "3M"]);
        make(&["-b", "plain.qcow2", "-F", "qcow2", "overlay.qcow2"]);
        make(&["-o", "data_file=data.raw", "external.qcow2", "1M"]);
        let size = |name: &str| virtual_size(&dir.path().join(name));
        assert_eq!(size("plain.qcow2").unwrap(), 3 << 20);
        assert!(
            size("overlay.qcow2")
                .unwrap_err()
                .message()
                .contains("backing file")
        );
        let overlay = |name: &str| check_overlay(&dir.path().join(name));
        assert!(overlay("overlay.qcow2").is_ok());
        assert!(overlay("external.qcow2").is_err());
        assert!(
            size("external.qcow2")
                .unwrap_err()
                .message()
                .contains("another file")
        );
    }
}
