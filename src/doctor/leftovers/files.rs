//! Temporary files of interrupted writes: beside kubeconfigs, and among kubby's own files.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::judge;
use crate::doctor::context::DoctorContext;
use crate::doctor::files::{entries, name};
use crate::doctor::finding::Finding;
use crate::doctor::repair::Guard;
use crate::fsutil;

/// The age from which a small file counts as left behind; it is written in milliseconds.
const WRITTEN: Duration = Duration::from_secs(60);
/// The age from which a download counts as failed: it has got nothing for that long.
const DOWNLOADED: Duration = Duration::from_secs(3600);

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    let mut left = Vec::new();
    for file in s.kubeconfigs() {
        collect(fsutil::folder_of(file), false, &mut left);
    }
    for folder in [s.env.store.profiles_dir(), s.env.store.templates_dir()] {
        collect(&folder, true, &mut left);
    }
    for folder in ["node-images", "components"] {
        collect(&s.env.store.cache().join(folder), false, &mut left);
    }
    left.sort();
    left.dedup();
    vec![judge(
        left.into_iter().map(|path| (path, Guard::None)).collect(),
        "no write was interrupted",
        "interrupted writes left these, and they can hold keys",
    )]
}

fn collect(folder: &Path, deep: bool, left: &mut Vec<PathBuf>) {
    for path in entries(folder) {
        let Ok(meta) = path.symlink_metadata() else {
            continue;
        };
        if meta.is_dir() {
            if deep {
                collect(&path, deep, left);
            }
            continue;
        }
        let age = meta.modified().ok().and_then(|at| at.elapsed().ok());
        let mine = meta.uid() == rustix::process::geteuid().as_raw();
        let old = kind(name(&path)).is_some_and(|limit| age.is_some_and(|age| age > limit));
        if meta.is_file() && mine && old {
            left.push(path);
        }
    }
}

/// Returns how long a temporary file of kubby's with this name can be in use unchanged; `None` for a
/// name that kubby does not give.
fn kind(name: &str) -> Option<Duration> {
    let rest = name.strip_prefix(".kubby-")?;
    let (limit, random) = match rest.strip_prefix("download-") {
        Some(random) => (DOWNLOADED, random),
        // Beside kubeconfigs the process is in the name.
        None => (
            WRITTEN,
            rest.strip_prefix("tmp-").map_or(rest, after_process),
        ),
    };
    let fits = random.len() == 6 && random.bytes().all(|b| b.is_ascii_alphanumeric());
    fits.then_some(limit)
}

fn after_process(name: &str) -> &str {
    match name.split_once('-') {
        Some((process, random)) if process.parse::<u32>().is_ok() => random,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::SystemTime;

    #[test]
    fn only_old_files_with_names_of_kubbys_are_found() {
        let dir = tempfile::tempdir().unwrap();
        for (name, age) in [
            (".kubby-Ab12Cd", 3600),
            (".kubby-Ab12Ce", 1),
            (".kubby-tmp-4711-Ab12Cd", 3600),
            (".kubby-download-Ab12Cd", 300),
            (".kubby-download-Ab12Ce", 7200),
            (".kubby-mine", 3600),
            (".kubby-settings", 3600),
            ("config", 3600),
        ] {
            let file = fs::File::create(dir.path().join(name)).unwrap();
            let at = SystemTime::now() - Duration::from_secs(age);
            file.set_modified(at).unwrap();
        }
        fs::create_dir(dir.path().join("inner")).unwrap();
        let inner = fs::File::create(dir.path().join("inner/.kubby-Ab12Cf")).unwrap();
        inner.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let found = |deep| {
            let mut left = Vec::new();
            collect(dir.path(), deep, &mut left);
            left.sort();
            let names = left.iter().map(|p| p.strip_prefix(dir.path()).unwrap());
            names.map(|p| p.display().to_string()).collect::<Vec<_>>()
        };
        let flat = [
            ".kubby-Ab12Cd",
            ".kubby-download-Ab12Ce",
            ".kubby-tmp-4711-Ab12Cd",
        ];
        assert_eq!(found(false), flat);
        assert_eq!(found(true), [&flat[..], &["inner/.kubby-Ab12Cf"]].concat());
    }
}
