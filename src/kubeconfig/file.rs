//! The kubeconfig as a file: reading it, and changing it under its lock.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::edit::{merge, remove};
use super::entry::{Entry, Owner};
use super::inspect::is_skeleton;
use super::lock::lock;
use super::path::resolve;
use super::write::replace;
use crate::error::{Error, Kind, Result, ResultExt as _};
use crate::{fault, fsutil};

/// Puts the entry into a file (see [`merge`]) and returns whether the file changed. A missing file
/// is made with mode 0600, a missing directory with 0700; an existing file keeps its mode and
/// owner, and a symbolic link stays one.
///
/// # Errors
/// [`Kind::Kubeconfig`] as [`merge`] has it, when the file cannot be read or written, or when
/// another program holds its lock for long; [`Kind::Interrupted`] on Ctrl-C while waiting. The
/// file is untouched then.
pub fn install(path: &Path, entry: &Entry, set_current: bool) -> Result<bool> {
    let target = resolve(path)?;
    for dir in [path, &target].map(fsutil::folder_of) {
        if !dir.exists() {
            fsutil::create_private_dir(dir).context(Kind::Kubeconfig, || {
                format!("cannot use {}", path.display())
            })?;
        }
    }
    let _locks = lock(path, &target)?;
    let old = load(&target)?;
    let new = merge(old.as_deref(), entry, set_current).map_err(|e| on(path, e))?;
    if old.as_ref() == Some(&new) {
        return Ok(false);
    }
    replace(&target, &new)?;
    Ok(true)
}

/// Removes the owner's entry from a file (see [`remove`]) and returns whether there was one. A file
/// that holds nothing but what kubby wrote around entries is deleted, unless a link leads to it.
///
/// # Errors
/// As [`install`]; the file is untouched then. A missing file is not an error.
pub fn uninstall(path: &Path, name: &str, owner: &Owner) -> Result<bool> {
    let target = resolve(path)?;
    if !target.exists() {
        return Ok(false);
    }
    let _locks = lock(path, &target)?;
    let Some(old) = load(&target)? else {
        return Ok(false);
    };
    let Some(new) = remove(&old, name, owner).map_err(|e| on(path, e))? else {
        return Ok(false);
    };
    if is_skeleton(&new) && !path.is_symlink() {
        fault::step("remove the kubeconfig", || fs::remove_file(&target))
            .context(Kind::Kubeconfig, || cannot("remove", &target))?;
    } else {
        replace(&target, &new)?;
    }
    Ok(true)
}

fn cannot(what: &str, path: &Path) -> String {
    format!("cannot {what} the kubeconfig {}", path.display())
}

/// Adds to an error of the pure functions which file it is about.
fn on(path: &Path, error: Error) -> Error {
    let error = error.wrapped(cannot("edit", path));
    if !error.hints().is_empty() {
        return error;
    }
    error.with_hint(format!(
        "correct the file, or choose another one: export KUBECONFIG=$HOME/.kube/kubby; to see what \
         kubectl makes of it: kubectl config view --kubeconfig {}",
        path.display()
    ))
}

/// Reads the text of a kubeconfig file; `None` where there is no such file.
///
/// # Errors
/// [`Kind::Kubeconfig`] when it cannot be read or is not text.
pub(crate) fn load(path: &Path) -> Result<Option<String>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).context(Kind::Kubeconfig, || cannot("read", path)),
    };
    String::from_utf8(bytes).map(Some).map_err(|e| {
        let before = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        Error::kubeconfig(format!(
            "{}: line {line}, byte {column}: not UTF-8 text",
            cannot("read", path)
        ))
        .with_hint(format!(
            "convert it first: iconv -t UTF-8 {}",
            path.display()
        ))
    })
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
