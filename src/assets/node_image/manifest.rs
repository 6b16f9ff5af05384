//! The manifest beside an image in the cache: what the image must be.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{NodeImage, qcow2};
use crate::assets::record::FileRecord;
use crate::error::{Error, Result};
use crate::fsutil;
use crate::units::hex;

/// Counts up when the layout of a cache entry changes, so that older entries are made again.
pub(super) const FORMAT: u32 = 1;

/// The file of the root disk in an entry.
pub(super) const DISK: &str = "disk.qcow2";
/// The file of the kernel in an entry.
pub(super) const KERNEL: &str = "vmlinuz";
/// The file of the initrd in an entry.
pub(super) const INITRD: &str = "initrd";
/// All files of an image, in the order in which its key depends on them.
pub(super) const FILES: [&str; 3] = [DISK, KERNEL, INITRD];
const MANIFEST: &str = "manifest.json";

/// The content of the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    format: u32,
    key: String,
    virtual_size: u64,
    files: BTreeMap<String, FileRecord>,
}

/// Records the files of the entry in `dir`, made from `inputs`, and returns the key that names
/// their content.
///
/// # Errors
/// [`Kind::Assets`](crate::error::Kind::Assets) when a file is missing or the disk is not usable; [`Kind::Interrupted`](crate::error::Kind::Interrupted).
pub(super) fn write(dir: &Path, inputs: &str) -> Result<String> {
    let mut files = BTreeMap::new();
    let mut content = Sha256::new();
    for name in FILES {
        let record = FileRecord::of(&dir.join(name))?;
        content.update(&record.sha256);
        files.insert(name.to_owned(), record);
    }
    let manifest = Manifest {
        format: FORMAT,
        key: format!("{inputs}-{}", &hex(&content.finalize())[..12]),
        virtual_size: qcow2::virtual_size(&dir.join(DISK))?,
        files,
    };
    save(dir, &manifest)?;
    Ok(manifest.key)
}

fn save(dir: &Path, manifest: &Manifest) -> Result<()> {
    let text = format!("{:#}", serde_json::json!(manifest));
    fsutil::write_atomic(&dir.join(MANIFEST), text.as_bytes(), 0o644)
}

/// Returns the image in `dir`. Reads a whole file only when its time is not the recorded one, as
/// after a copy of the cache.
///
/// # Errors
/// [`Kind::Assets`](crate::error::Kind::Assets) with the reason when it is not what its manifest says; [`Kind::Interrupted`](crate::error::Kind::Interrupted) on
/// Ctrl-C.
pub(super) fn check(dir: &Path) -> Result<NodeImage> {
    let bad = |why: String| Error::assets(why);
    let unreadable = |why: &dyn Display| bad(format!("its {MANIFEST} cannot be read: {why}"));
    let text = fs::read(dir.join(MANIFEST)).map_err(|e| unreadable(&e))?;
    let recorded: Manifest = serde_json::from_slice(&text).map_err(|e| unreadable(&e))?;
    if recorded.format != FORMAT {
        return Err(bad(format!(
            "its format is {}, not {FORMAT}",
            recorded.format
        )));
    }
    if dir.file_name().is_none_or(|name| *name != *recorded.key) {
        return Err(bad(format!("its {MANIFEST} is that of {}", recorded.key)));
    }
    let mut found = recorded.clone();
    for name in FILES {
        let record = found.files.get_mut(name);
        let record = record.ok_or_else(|| bad(format!("its {MANIFEST} does not name {name}")))?;
        record.check(dir, name)?;
    }
    if found != recorded {
        // Only spares the next check the reading: a cache that cannot be written still works.
        let _ = save(dir, &found);
    }
    Ok(NodeImage {
        disk: dir.join(DISK),
        kernel: dir.join(KERNEL),
        initrd: dir.join(INITRD),
        virtual_size: found.virtual_size,
        key: found.key,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs::File;

    use super::*;

    /// Writes the three files of an image; `mark` makes its content differ from others.
    pub(in super::super) fn fake(dir: &Path, mark: &str) {
        let mut disk = qcow2::tests::header();
        disk.extend(mark.as_bytes());
        fs::write(dir.join(DISK), disk).unwrap();
        fs::write(dir.join(KERNEL), "kernel").unwrap();
        fs::write(dir.join(INITRD), "initrd").unwrap();
    }

    fn entry() -> (tempfile::TempDir, std::path::PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let work = root.path().join("work");
        fs::create_dir(&work).unwrap();
        fake(&work, "a");
        let key = write(&work, "inputs").unwrap();
        let dir = root.path().join(&key);
        fs::rename(&work, &dir).unwrap();
        (root, dir)
    }

    #[test]
    fn an_intact_entry_passes_and_its_key_is_its_name() {
        let (_root, dir) = entry();
        let image = check(&dir).unwrap();
        assert_eq!(image.virtual_size, 1 << 30);
        assert_eq!(dir.file_name().unwrap().to_str(), Some(image.key.as_str()));
        assert!(image.key.starts_with("inputs-"), "{}", image.key);
    }

    #[test]
    fn the_key_follows_the_content() {
        let dir = tempfile::tempdir().unwrap();
        fake(dir.path(), "a");
        let a = write(dir.path(), "i").unwrap();
        assert_eq!(write(dir.path(), "i").unwrap(), a);
        fake(dir.path(), "b");
        assert_ne!(write(dir.path(), "i").unwrap(), a);
    }

    #[test]
    fn damage_is_noticed() {
        type Damage = fn(&Path);
        let table: [(&str, Damage); 6] = [
            ("cannot be read", |d| {
                fs::remove_file(d.join(MANIFEST)).unwrap()
            }),
            ("cannot be read", |d| {
                fs::write(d.join(MANIFEST), "{\"format\":").unwrap()
            }),
            ("cannot be read", |d| {
                fs::remove_file(d.join(KERNEL)).unwrap()
            }),
            ("bytes, not", |d| fs::write(d.join(INITRD), "init").unwrap()),
            ("was changed", |d| {
                fs::write(d.join(INITRD), "initrX").unwrap()
            }),
            ("format is", |d| {
                let text = fs::read_to_string(d.join(MANIFEST)).unwrap();
                fs::write(
                    d.join(MANIFEST),
                    text.replace("\"format\": 1", "\"format\": 0"),
                )
                .unwrap();
            }),
        ];
        for (why, damage) in table {
            let (_root, dir) = entry();
            damage(&dir);
            let reason = check(&dir).unwrap_err().to_string();
            assert!(reason.contains(why), "{why}: {reason}");
        }
    }

    #[test]
    fn another_time_stamp_alone_is_no_damage() {
        let (_root, dir) = entry();
        fs::write(dir.join(KERNEL), "kernel").unwrap();
        check(&dir).unwrap();
        // The new time stamp was recorded: a change that keeps it is now taken for granted.
        let modified = fs::metadata(dir.join(KERNEL)).unwrap().modified().unwrap();
        fs::write(dir.join(KERNEL), "kerneX").unwrap();
        File::options()
            .write(true)
            .open(dir.join(KERNEL))
            .unwrap()
            .set_modified(modified)
            .unwrap();
        check(&dir).unwrap();
    }

    #[test]
    fn a_moved_entry_is_not_taken_for_another() {
        let (root, dir) = entry();
        let other = root.path().join("inputs-000000000000");
        fs::rename(&dir, &other).unwrap();
        assert!(check(&other).unwrap_err().message().contains("is that of"));
    }

    #[test]
    fn an_unusable_disk_is_not_recorded() {
        let dir = tempfile::tempdir().unwrap();
        fake(dir.path(), "a");
        fs::write(dir.path().join(DISK), "no disk").unwrap();
        assert!(
            write(dir.path(), "i")
                .unwrap_err()
                .message()
                .contains("is not a qcow2")
        );
    }
}
