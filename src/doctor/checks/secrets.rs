//! Keys, and the folders they are in, are for this user alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::doctor::finding::{Finding, quoted};
use crate::doctor::repair::Repair;
use crate::doctor::surroundings::Surroundings;

const NAME: &str = "secrets";

/// What others may do, if it is not nothing.
const OTHERS: u32 = 0o077;

pub(in crate::doctor) fn look(s: &Surroundings<'_>) -> Vec<Finding> {
    let mut open = Vec::new();
    for folder in [s.store.profiles_dir(), s.store.templates_dir()] {
        // The folders of all profiles and templates are fine as they are: each has its own.
        for (path, is_dir) in entries(&folder) {
            if is_dir {
                walk(&path, &mut open);
            }
        }
    }
    vec![judge(open)]
}

fn entries(folder: &Path) -> Vec<(PathBuf, bool)> {
    let found = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<(PathBuf, bool)> = found
        .filter_map(|e| Some((e.path(), e.file_type().ok()?.is_dir())))
        .collect();
    all.sort();
    all
}

/// Collects the folder, if others may do anything with it, and what is secret in it.
fn walk(folder: &Path, open: &mut Vec<(PathBuf, u32)>) {
    if is_open(folder) {
        open.push((folder.to_owned(), 0o700));
    }
    for (path, is_dir) in entries(folder) {
        if is_dir {
            // Add-ons are the user's own files, copied as they were.
            if path.file_name().is_none_or(|name| name != "addons") {
                walk(&path, open);
            }
        } else if is_secret(&path) && !path.is_symlink() && is_open(&path) {
            open.push((path, 0o600));
        }
    }
}

fn is_open(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & OTHERS != 0)
}

fn is_secret(path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str());
    let name = name.unwrap_or_default();
    name.ends_with(".key")
        || ["id_ed25519", "host_ed25519", "kubeconfig", "profile.toml"].contains(&name)
}

fn judge(open: Vec<(PathBuf, u32)>) -> Finding {
    if open.is_empty() {
        return Finding::ok(NAME, "keys can be read by this user alone");
    }
    let names: Vec<String> = open.iter().map(|(p, _)| p.display().to_string()).collect();
    let quotes: Vec<String> = open.iter().map(|(path, _)| quoted(path)).collect();
    Finding::failure(
        NAME,
        format!("others can get at keys: {}", names.join(", ")),
        format!("chmod go= {}", quotes.join(" ")),
    )
    .with(Repair::Restrict(open))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    #[test]
    fn open_keys_and_folders_are_found_and_public_files_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("dev");
        for (file, mode) in [
            ("profile.toml", 0o600),
            ("pki/ca.crt", 0o644),
            ("pki/ca.key", 0o640),
            ("ssh/id_ed25519", 0o604),
            ("ssh/id_ed25519.pub", 0o644),
            ("addons/mine/a.key", 0o644),
        ] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        for folder in ["", "pki", "ssh"] {
            let mode = if folder == "ssh" { 0o755 } else { 0o700 };
            fs::set_permissions(root.join(folder), fs::Permissions::from_mode(mode)).unwrap();
        }
        let mut open = Vec::new();
        walk(&root, &mut open);
        let expected = [
            (root.join("pki/ca.key"), 0o600),
            (root.join("ssh"), 0o700),
            (root.join("ssh/id_ed25519"), 0o600),
        ];
        assert_eq!(open, expected);
        let found = judge(open);
        assert!(found.state == State::Failure && found.fixable);
        assert!(found.reason.contains("pki/ca.key"), "{}", found.reason);
        assert_eq!(judge(vec![]).state, State::Ok);
    }
}
