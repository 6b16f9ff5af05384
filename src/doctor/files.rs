//! Helpers of the checks for files and folders.

use std::path::{Path, PathBuf};

use crate::remote;

/// Returns what is in a folder, sorted; nothing where it cannot be read.
pub(super) fn entries(folder: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> = found.map(|entry| entry.path()).collect();
    all.sort();
    all
}

/// Returns the last part of a path; empty for a name that is not UTF-8, which kubby never gives.
pub(super) fn name(path: &Path) -> &str {
    let name = path.file_name().and_then(|name| name.to_str());
    name.unwrap_or_default()
}

/// Returns paths in one line for people.
pub(super) fn listed<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> String {
    let names: Vec<String> = paths.into_iter().map(|p| p.display().to_string()).collect();
    names.join(", ")
}

/// Returns a path as a command in a remedy names it.
pub(super) fn quoted(path: &Path) -> String {
    remote::quote(&path.to_string_lossy())
}
