//! The kubeconfig files of the user: which ones kubectl reads, and where links lead.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::fsutil;

/// Links to follow before a chain of them counts as a loop, as the kernel counts.
const MAX_LINKS: usize = 40;

/// Returns the kubeconfig file that kubby edits: the first entry of `KUBECONFIG`, else
/// `~/.kube/config`.
///
/// # Errors
/// [`Kind::Kubeconfig`] when there is no home directory.
pub fn default_path() -> Result<PathBuf> {
    choose_path(std::env::var_os("KUBECONFIG"), dirs::home_dir())
}

fn choose_path(variable: Option<OsString>, home: Option<PathBuf>) -> Result<PathBuf> {
    let listed = variable
        .iter()
        .flat_map(std::env::split_paths)
        .find(|p| !p.as_os_str().is_empty());
    listed
        .or_else(|| home.map(|home| home.join(".kube/config")))
        .ok_or_else(|| {
            Error::new(
                Kind::Kubeconfig,
                "there is no home directory to look for .kube/config in",
            )
            .with_hint("say which file to use: export KUBECONFIG=/path/to/config")
        })
}

/// Returns the file that a chain of symbolic links leads to, whether or not it is there.
pub(super) fn resolve(path: &Path) -> Result<PathBuf> {
    let mut at = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&at) {
            Ok(link) => at = fsutil::folder_of(&at).join(link),
            // Not a link (EINVAL), not there, or not readable, which opening it will show.
            Err(_) => return Ok(at),
        }
    }
    Err(Error::new(
        Kind::Kubeconfig,
        format!("{}: symbolic links in a circle", path.display()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_named_file_counts() {
        let home = || Some(PathBuf::from("/h"));
        for (variable, path) in [
            (None, "/h/.kube/config"),
            (Some(""), "/h/.kube/config"),
            (Some("/a:/b"), "/a"),
            (Some(":/b"), "/b"),
        ] {
            assert_eq!(
                choose_path(variable.map(OsString::from), home()).unwrap(),
                Path::new(path)
            );
        }
        assert_eq!(
            choose_path(None, None).unwrap_err().kind(),
            Kind::Kubeconfig
        );
    }
}
