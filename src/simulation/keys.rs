//! Keys and certificates in memory: those that were made or checked once are not checked again, and new
//! clusters get some that were made before. Both take most of a start's time otherwise.

use std::collections::HashMap;
use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::error::Result;
use crate::fault;
use crate::fsutil;
use crate::pki::{self, Pki, PkiSpec};

/// The number of prepared sets; no host in memory has more clusters.
const PREPARED: usize = 32;

/// The most sets that are remembered.
const MOST_CHECKED: usize = 256;

/// The most files whose digests are remembered.
const MOST_READ: usize = 100_000;

/// A file's inode and the time of its last change, in seconds and nanoseconds.
type FileState = (u64, i64, i64);

/// The files of a set, in the order in which they are written.
type Files = Vec<(PathBuf, Vec<u8>)>;

/// The prepared sets, each with its digest.
static SETS: LazyLock<Vec<(Files, u64)>> = LazyLock::new(|| {
    let spec = PkiSpec::of_first_node(time::OffsetDateTime::now_utc());
    let set = |_| {
        let dir = tempfile::tempdir_in(super::disk::ram_disk()).unwrap();
        pki::ensure(dir.path(), &spec).unwrap();
        let mut files = Files::new();
        each_file(dir.path(), &mut |entry| {
            let name = entry.path();
            let name = name.strip_prefix(dir.path()).unwrap().to_owned();
            files.push((name, fs::read(entry.path()).unwrap()));
        });
        // As `ensure` does, a key before its certificate, and authorities first.
        files.sort_by_key(|(path, _)| {
            let name = path.to_string_lossy().into_owned();
            (!name.contains("ca."), name.ends_with(".crt"), name)
        });
        (files, digest(dir.path()).0)
    };
    (0..PREPARED).map(set).collect()
});
static NEXT: AtomicUsize = AtomicUsize::new(0);
/// The digests of files.
static READ: LazyLock<Mutex<HashMap<FileState, u64>>> = LazyLock::new(Mutex::default);
static CHECKED: LazyLock<Mutex<HashMap<u64, Pki>>> = LazyLock::new(Mutex::default);

/// Makes the prepared sets, outside of a process that may be killed.
pub(super) fn prepare() {
    LazyLock::force(&SETS);
}

/// Hands each file below a folder to `look`, in the order of their names.
fn each_file(dir: &Path, look: &mut dyn FnMut(&fs::DirEntry)) {
    let mut entries: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        match entry.file_type().unwrap().is_dir() {
            true => each_file(&entry.path(), look),
            false => look(&entry),
        }
    }
}

/// Returns a digest of all files in a folder, and their number. A file that was read before is not read
/// again: no other file is ever changed at the same moment and has the same place on the disk.
fn digest(dir: &Path) -> (u64, usize) {
    let (mut hasher, mut count) = (DefaultHasher::new(), 0);
    each_file(dir, &mut |entry| {
        let meta = entry.metadata().unwrap();
        let state = (meta.ino(), meta.ctime(), meta.ctime_nsec());
        let mut known = READ.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > MOST_READ {
            known.clear();
        }
        let content = *known.entry(state).or_insert_with(|| {
            let mut hasher = DefaultHasher::new();
            hasher.write(&fs::read(entry.path()).unwrap());
            hasher.finish()
        });
        hasher.write(entry.file_name().as_encoded_bytes());
        hasher.write_u64(content);
        count += 1;
    });
    (hasher.finish(), count)
}

/// Writes a new file with the places of [`fsutil::write_atomic`] at which a process can be killed, and
/// leaves what that leaves, but without its dozen system calls for each of the million files.
fn write(path: &Path, content: &[u8]) {
    let put = |path: &Path| {
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(path);
        file.unwrap().write_all(content).unwrap();
    };
    fault::step("write a key", || {
        let unfinished = path.with_file_name(format!("{}key", fsutil::UNFINISHED));
        fault::point_leaving("staged", "write a key", || put(&unfinished));
        put(path);
    });
}

/// Does what [`pki::ensure`] does.
pub(super) fn ensure(dir: &Path, spec: &PkiSpec) -> Result<Pki> {
    let checked = || CHECKED.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut key, count) = digest(dir);
    if count == 0 {
        fsutil::create_private_dir(&dir.join("etcd"))?;
        let (files, digest) = &SETS[NEXT.fetch_add(1, Ordering::Relaxed) % PREPARED];
        for (name, content) in files {
            write(&dir.join(name), content);
        }
        key = *digest;
    }
    let known = checked().get(&key).cloned();
    if let Some(known) = known {
        return Ok(known);
    }
    let pki = pki::ensure(dir, spec)?;
    let mut checked = checked();
    // Copies of templates get operators of their own, which are of no use after their sequence.
    if checked.len() >= MOST_CHECKED {
        checked.clear();
    }
    checked.insert(digest(dir).0, pki.unchanged());
    Ok(pki)
}
