//! What lies beside an image in the cache and says what the image must be.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{NodeImage, qcow2};
use crate::error::{Error, Kind, Result, ResultExt};
use crate::{fsutil, interrupt};

/// Counts up when the layout of a cache entry changes, so that older entries are made anew.
pub(super) const FORMAT: u32 = 1;

/// The file of the root disk in an entry.
pub(super) const DISK: &str = "disk.qcow2";
/// The file of the kernel in an entry.
pub(super) const KERNEL: &str = "vmlinuz";
/// The file of the initrd in an entry.
pub(super) const INITRD: &str = "initrd";
const MANIFEST: &str = "manifest.json";

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    format: u32,
    key: String,
    virtual_size: u64,
    files: BTreeMap<String, Recorded>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Recorded {
    size: u64,
    /// Nanoseconds since 1970, to notice a change without reading the whole file.
    modified: u64,
    sha256: String,
}

/// Records the files of the entry in `dir`, made from `inputs`, and returns the key that names
/// their content.
///
/// # Errors
/// [`Kind::Assets`] when a file is missing or the disk is not usable; [`Kind::Interrupted`].
pub(super) fn write(dir: &Path, inputs: &str) -> Result<String> {
    let mut files = BTreeMap::new();
    let mut content = Sha256::new();
    for name in [DISK, KERNEL, INITRD] {
        let path = dir.join(name);
        let recorded = record(&path)?;
        if recorded.size == 0 {
            return Err(Error::new(
                Kind::Assets,
                format!("{} is empty", path.display()),
            ));
        }
        content.update(&recorded.sha256);
        files.insert(name.to_owned(), recorded);
    }
    let key = format!("{inputs}-{}", &hex(&content.finalize())[..12]);
    let virtual_size = qcow2::virtual_size(&dir.join(DISK))?;
    save(
        dir,
        &Manifest {
            format: FORMAT,
            key: key.clone(),
            virtual_size,
            files,
        },
    )?;
    Ok(key)
}

fn save(dir: &Path, manifest: &Manifest) -> Result<()> {
    let text = serde_json::to_string_pretty(manifest).context(Kind::Internal, || {
        "cannot write the manifest of the node image".into()
    })?;
    fsutil::write_atomic(&dir.join(MANIFEST), text.as_bytes(), 0o644)
}

/// The image in `dir` when it is what its manifest says, else the reason why not. Reads a whole
/// file only when its time stamp is not the recorded one, as after a copy of the cache.
///
/// # Errors
/// [`Kind::Interrupted`] on Ctrl-C.
pub(super) fn check(dir: &Path) -> Result<Result<NodeImage, String>> {
    let mut manifest: Manifest = match fs::read(dir.join(MANIFEST))
        .map_err(|e| e.to_string())
        .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|e| e.to_string()))
    {
        Ok(manifest) => manifest,
        Err(e) => return Ok(Err(format!("its {MANIFEST} cannot be read: {e}"))),
    };
    if manifest.format != FORMAT {
        return Ok(Err(format!(
            "its format is {}, not {FORMAT}",
            manifest.format
        )));
    }
    if dir.file_name().is_none_or(|name| *name != *manifest.key) {
        return Ok(Err(format!("its {MANIFEST} is that of {}", manifest.key)));
    }
    let mut touched = false;
    for name in [DISK, KERNEL, INITRD] {
        let Some(recorded) = manifest.files.get_mut(name) else {
            return Ok(Err(format!("its {MANIFEST} says nothing about {name}")));
        };
        let path = dir.join(name);
        let (size, modified) = match stat(&path) {
            Ok(stat) => stat,
            Err(e) => return Ok(Err(format!("{name} cannot be read: {e}"))),
        };
        if size != recorded.size {
            return Ok(Err(format!(
                "{name} has {size} bytes, not {}",
                recorded.size
            )));
        }
        if modified != recorded.modified {
            if sha256_of_file(&path)? != recorded.sha256 {
                return Ok(Err(format!("{name} was changed")));
            }
            recorded.modified = modified;
            touched = true;
        }
    }
    if touched {
        // Only spares the next check the reading: a cache that cannot be written still works.
        let _ = save(dir, &manifest);
    }
    Ok(Ok(NodeImage {
        disk: dir.join(DISK),
        kernel: dir.join(KERNEL),
        initrd: dir.join(INITRD),
        virtual_size: manifest.virtual_size,
        key: manifest.key,
    }))
}

fn record(path: &Path) -> Result<Recorded> {
    let (size, modified) =
        stat(path).context(Kind::Assets, || format!("cannot read {}", path.display()))?;
    Ok(Recorded {
        size,
        modified,
        sha256: sha256_of_file(path)?,
    })
}

fn stat(path: &Path) -> std::io::Result<(u64, u64)> {
    let meta = fs::metadata(path)?;
    let since = meta
        .modified()?
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Ok((
        meta.len(),
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
    ))
}

/// The SHA-256 of a file in lower-case hex.
///
/// # Errors
/// [`Kind::Assets`] when it cannot be read; [`Kind::Interrupted`] on Ctrl-C.
pub(super) fn sha256_of_file(path: &Path) -> Result<String> {
    let fail = || format!("cannot read {}", path.display());
    let mut file = File::open(path).context(Kind::Assets, fail)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        interrupt::check()?;
        match file.read(&mut buffer).context(Kind::Assets, fail)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

pub(super) use crate::units::hex;

#[cfg(test)]
pub(super) mod tests {
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
        let image = check(&dir).unwrap().unwrap();
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
            let reason = check(&dir).unwrap().unwrap_err();
            assert!(reason.contains(why), "{why}: {reason}");
        }
    }

    #[test]
    fn another_time_stamp_alone_is_no_damage() {
        let (_root, dir) = entry();
        fs::write(dir.join(KERNEL), "kernel").unwrap();
        check(&dir).unwrap().unwrap();
        // The new time stamp was recorded: a change that keeps it is now taken for granted.
        let modified = fs::metadata(dir.join(KERNEL)).unwrap().modified().unwrap();
        fs::write(dir.join(KERNEL), "kerneX").unwrap();
        File::options()
            .write(true)
            .open(dir.join(KERNEL))
            .unwrap()
            .set_modified(modified)
            .unwrap();
        check(&dir).unwrap().unwrap();
    }

    #[test]
    fn a_moved_entry_is_not_taken_for_another() {
        let (root, dir) = entry();
        let other = root.path().join("inputs-000000000000");
        fs::rename(&dir, &other).unwrap();
        assert!(check(&other).unwrap().unwrap_err().contains("is that of"));
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
