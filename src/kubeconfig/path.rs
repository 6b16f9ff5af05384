//! The kubeconfig files of the user: which ones kubectl reads, and where links lead.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result, ResultExt as _};
use crate::fsutil;

/// Links to follow before a chain of them counts as a loop, as the kernel counts.
const MAX_LINKS: usize = 40;

/// Returns the kubeconfig file that kubby edits, absolute: the first one that kubectl reads.
///
/// # Errors
/// As [`listed_paths`].
pub(crate) fn default_path() -> Result<PathBuf> {
    listed_paths().map(|mut paths| paths.swap_remove(0))
}

/// Returns the files that kubectl reads in this environment, at least one: those in `KUBECONFIG`,
/// else `~/.kube/config`. They are absolute, so that they stay the same in another folder.
///
/// # Errors
/// [`Kind::Kubeconfig`] when there is no home directory or no current one to start from.
pub(crate) fn listed_paths() -> Result<Vec<PathBuf>> {
    listed(std::env::var_os("KUBECONFIG"), dirs::home_dir())
}

fn listed(variable: Option<OsString>, home: Option<PathBuf>) -> Result<Vec<PathBuf>> {
    let named = variable.iter().flat_map(std::env::split_paths);
    let mut paths = named
        .filter(|path| !path.as_os_str().is_empty())
        .map(|path| {
            std::path::absolute(&path).context(Kind::Kubeconfig, || {
                format!("cannot find the folder that {} is in", path.display())
            })
        })
        .collect::<Result<Vec<_>>>()?;
    if paths.is_empty() {
        let home = home.ok_or_else(|| {
            Error::kubeconfig("there is no home directory to look for .kube/config in")
                .with_hint("say which file to use: export KUBECONFIG=/path/to/config")
        })?;
        paths.push(home.join(".kube/config"));
    }
    Ok(paths)
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
    Err(Error::kubeconfig(format!(
        "{}: symbolic links in a circle",
        path.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_files_count_and_are_absolute() {
        let home = || Some(PathBuf::from("/h"));
        let here = std::env::current_dir().unwrap();
        let below = |path: &str| vec![here.join(path)];
        for (variable, paths) in [
            (None, vec!["/h/.kube/config".into()]),
            (Some(""), vec!["/h/.kube/config".into()]),
            (Some("/a:/b"), vec!["/a".into(), "/b".into()]),
            (Some(":/b"), vec!["/b".into()]),
            (Some("config"), below("config")),
            (Some("./sub/config:"), below("sub/config")),
            (Some("../config"), below("../config")),
        ] {
            let found = listed(variable.map(OsString::from), home()).unwrap();
            assert_eq!(found, paths, "{variable:?}");
            assert!(found.iter().all(|path| path.is_absolute()));
        }
        assert_eq!(listed(None, None).unwrap_err().kind(), Kind::Kubeconfig);
        assert!(listed(Some("/a".into()), None).is_ok());
    }
}
