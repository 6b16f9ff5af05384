//! What crashed runs leave behind: one file a kind. Only what is this home's own is ever named.

pub(super) mod channels;
pub(super) mod contexts;
pub(super) mod domains;
pub(super) mod files;
pub(super) mod folders;
pub(super) mod pools;
pub(super) mod profiles;
pub(super) mod volumes;

use std::path::Path;

/// Paths in one line for people.
fn listed<'a>(paths: impl IntoIterator<Item = &'a Path>) -> String {
    let names: Vec<String> = paths.into_iter().map(|p| p.display().to_string()).collect();
    names.join(", ")
}
