//! Keys and certificates in memory: those that were made or checked once are not checked again, and new
//! clusters get some that were made before. Both take most of a start's time otherwise.

use std::collections::HashMap;
use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::error::Result;
use crate::fsutil;
use crate::pki::{self, Pki, PkiSpec};

/// The number of prepared sets; no host in memory has more clusters.
const PREPARED: usize = 32;

/// The most sets that are remembered.
const MOST_CHECKED: usize = 256;

/// The files of a set, in the order in which they are written.
type Files = Vec<(PathBuf, Vec<u8>)>;

static SETS: LazyLock<Vec<Files>> = LazyLock::new(|| {
    let spec = PkiSpec::of_first_node(time::OffsetDateTime::now_utc());
    let set = |_| {
        let dir = tempfile::tempdir_in(super::disk::ram_disk()).unwrap();
        pki::ensure(dir.path(), &spec).unwrap();
        let mut files = Files::new();
        collect(dir.path(), dir.path(), &mut files);
        // As `ensure` does, a key before its certificate, and authorities first.
        files.sort_by_key(|(path, _)| {
            let name = path.to_string_lossy().into_owned();
            (!name.contains("ca."), name.ends_with(".crt"), name)
        });
        files
    };
    (0..PREPARED).map(set).collect()
});
static NEXT: AtomicUsize = AtomicUsize::new(0);
static CHECKED: LazyLock<Mutex<HashMap<u64, Pki>>> = LazyLock::new(Mutex::default);

/// Makes the prepared sets, outside of a process that may be killed.
pub(super) fn prepare() {
    LazyLock::force(&SETS);
}

fn collect(root: &Path, dir: &Path, into: &mut Files) {
    let mut entries: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, into);
        } else {
            let name = path.strip_prefix(root).unwrap().to_owned();
            into.push((name, fs::read(&path).unwrap()));
        }
    }
}

/// Returns a digest of all files in a folder, and their number.
fn digest(dir: &Path) -> (u64, usize) {
    let mut files = Files::new();
    collect(dir, dir, &mut files);
    let mut hasher = DefaultHasher::new();
    for (path, content) in &files {
        hasher.write(path.as_os_str().as_encoded_bytes());
        hasher.write(content);
    }
    (hasher.finish(), files.len())
}

/// Does what [`pki::ensure`] does.
pub(super) fn ensure(dir: &Path, spec: &PkiSpec) -> Result<Pki> {
    let checked = || CHECKED.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut key, count) = digest(dir);
    if count == 0 {
        fsutil::create_private_dir(&dir.join("etcd"))?;
        let next = NEXT.fetch_add(1, Ordering::Relaxed) % PREPARED;
        for (name, content) in &SETS[next] {
            fsutil::write_atomic(&dir.join(name), content, 0o600)?;
        }
        (key, _) = digest(dir);
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
