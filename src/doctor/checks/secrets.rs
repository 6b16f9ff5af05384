//! Keys, and the folders they are in, are for this user alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::doctor::context::DoctorContext;
use crate::doctor::files::{entries, listed, name, quoted};
use crate::doctor::finding::Finding;
use crate::doctor::repair::Repair;

/// The mode bits of others, which have to be clear.
const OTHERS: u32 = 0o077;

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    let mut open = Vec::new();
    for folder in [s.env.store.profiles_dir(), s.env.store.templates_dir()] {
        // The folders of all profiles and templates may be open: each has its own inside.
        for path in entries(&folder).iter().filter(|path| is_folder(path)) {
            walk(path, &mut open);
        }
    }
    vec![judge(open)]
}

fn is_folder(path: &Path) -> bool {
    path.is_dir() && !path.is_symlink()
}

/// Collects the folder and the secrets in it that others can use.
fn walk(folder: &Path, open: &mut Vec<(PathBuf, u32)>) {
    if is_open(folder) {
        open.push((folder.to_owned(), 0o700));
    }
    for path in entries(folder) {
        if is_folder(&path) {
            // Add-ons are the user's own files, copied as they were.
            if name(&path) != "addons" {
                walk(&path, open);
            }
        } else if is_secret(name(&path)) && !path.is_symlink() && is_open(&path) {
            open.push((path, 0o600));
        }
    }
}

fn is_open(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & OTHERS != 0)
}

fn is_secret(name: &str) -> bool {
    let names = ["id_ed25519", "host_ed25519", "kubeconfig", "profile.toml"];
    name.ends_with(".key") || names.contains(&name)
}

fn judge(open: Vec<(PathBuf, u32)>) -> Finding {
    if open.is_empty() {
        return Finding::ok("keys can be read by this user alone");
    }
    let quotes: Vec<String> = open.iter().map(|(path, _)| quoted(path)).collect();
    let names = listed(open.iter().map(|(path, _)| path));
    Finding::failure(
        format!("others can read or change keys: {names}"),
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
