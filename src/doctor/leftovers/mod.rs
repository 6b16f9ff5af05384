//! The leftovers of crashed runs: one file for each kind. Only those of this home are named.

pub(super) mod channels;
pub(super) mod contexts;
pub(super) mod domains;
pub(super) mod files;
pub(super) mod folders;
pub(super) mod pools;
pub(super) mod profiles;
pub(super) mod volumes;

use std::path::PathBuf;

use super::files::listed;
use super::finding::Finding;
use super::repair::{Guard, Repair};

const REMEDY: &str = "kubby doctor --fix removes them";

/// Judges leftover files and folders, which `--fix` removes; `fine` is the reason where there are
/// none.
fn judge(left: Vec<(PathBuf, Guard)>, fine: &str, why: &str) -> Finding {
    if left.is_empty() {
        return Finding::ok(fine);
    }
    let paths = listed(left.iter().map(|(path, _)| path));
    Finding::warning(format!("{why}: {paths}"), REMEDY).with(Repair::Remove(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_left_can_be_removed() {
        assert_eq!(judge(vec![], "none", "left").remedy, None);
        let found = judge(vec![("/a".into(), Guard::None)], "none", "left");
        assert!(found.fixable && found.reason == "left: /a");
    }
}
