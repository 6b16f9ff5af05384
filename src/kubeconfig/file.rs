//! The kubeconfig as a file: where it is, whose turn it is to write, and writing it whole.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::lock::lock;
use super::{Entry, Owner, is_skeleton, merge, remove};
use crate::error::{Error, Kind, Result, ResultExt as _};
use crate::{fault, fsutil};

/// Links to follow before a chain of them counts as a loop, as the kernel counts.
const MAX_LINKS: usize = 40;

/// The kubeconfig file that kubby edits: the first entry of `KUBECONFIG`, else `~/.kube/config`.
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

/// Puts the entry into a file (see [`merge`]) and says whether the file changed. A missing file
/// is made with mode 0600, a missing directory with 0700; an existing file keeps its mode and
/// owner, and a symbolic link stays one.
///
/// # Errors
/// [`Kind::Kubeconfig`] as [`merge`] has it, when the file cannot be read or written, or when
/// another program holds its lock for long; [`Kind::Interrupted`] on Ctrl-C while waiting. The
/// file is untouched then.
pub fn install(path: &Path, entry: &Entry, set_current: bool) -> Result<bool> {
    let target = resolve(path)?;
    for dir in [path, &target].into_iter().filter_map(parent) {
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
    write(&target, &new)?;
    Ok(true)
}

/// Takes the owner's entry out of a file (see [`remove`]) and says whether there was one. A file
/// that holds nothing but what kubby wrote around entries is deleted, unless a link leads to it.
///
/// # Errors
/// As [`install`]; the file is untouched then. A missing file is no error.
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
        write(&target, &new)?;
    }
    Ok(true)
}

fn cannot(what: &str, path: &Path) -> String {
    format!("cannot {what} the kubeconfig {}", path.display())
}

/// Says which file an error of the pure functions is about.
fn on(path: &Path, error: Error) -> Error {
    let mut outer = Error::new(error.kind(), cannot("edit", path));
    for hint in error.hints() {
        outer = outer.with_hint(hint.clone());
    }
    if error.hints().is_empty() {
        outer = outer.with_hint(format!(
            "correct the file, or choose another one: export KUBECONFIG=$HOME/.kube/kubby; to see \
             what kubectl makes of it: kubectl config view --kubeconfig {}",
            path.display()
        ));
    }
    outer.with_source(error)
}

pub(super) fn parent(path: &Path) -> Option<&Path> {
    path.parent().filter(|p| !p.as_os_str().is_empty())
}

/// The file that a chain of symbolic links leads to, whether or not it is there.
fn resolve(path: &Path) -> Result<PathBuf> {
    let mut at = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&at) {
            Ok(link) => at = parent(&at).unwrap_or(Path::new(".")).join(link),
            // Not a link (EINVAL), not there, or not readable, which opening it will tell.
            Err(_) => return Ok(at),
        }
    }
    Err(Error::new(
        Kind::Kubeconfig,
        format!("{}: symbolic links in a circle", path.display()),
    ))
}

/// The text of a kubeconfig file; `None` where there is no such file.
///
/// # Errors
/// [`Kind::Kubeconfig`] when it cannot be read or is no text.
pub fn load(path: &Path) -> Result<Option<String>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).context(Kind::Kubeconfig, || cannot("read", path)),
    };
    String::from_utf8(bytes).map(Some).map_err(|e| {
        let before = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        Error::new(
            Kind::Kubeconfig,
            format!(
                "{}: line {line}, byte {column}: not UTF-8 text",
                cannot("read", path)
            ),
        )
        .with_hint(format!(
            "convert it first: iconv -t UTF-8 {}",
            path.display()
        ))
    })
}

/// Replaces the file by one of the same mode and owner, in one step.
fn write(path: &Path, text: &str) -> Result<()> {
    fault::point("before", "write the kubeconfig");
    let fail = || cannot("write", path);
    let old = fs::metadata(path).ok();
    let mode = old
        .as_ref()
        .map_or(0o600, |m| m.permissions().mode() & 0o7777);
    let dir = parent(path).unwrap_or(Path::new("."));
    let mut file = unfinished(dir).context(Kind::Kubeconfig, fail)?;
    file.write_all(text.as_bytes())
        .context(Kind::Kubeconfig, fail)?;
    if let (Some(old), Ok(new)) = (&old, file.as_file().metadata())
        && (old.uid(), old.gid()) != (new.uid(), new.gid())
    {
        // Root editing a user's file must leave it the user's.
        std::os::unix::fs::fchown(file.as_file(), Some(old.uid()), Some(old.gid()))
            .context(Kind::Kubeconfig, fail)?;
    }
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(mode))
        .and_then(|()| file.as_file().sync_all())
        .context(Kind::Kubeconfig, fail)?;
    fault::point("staged", "write the kubeconfig");
    file.persist(path).context(Kind::Kubeconfig, fail)?;
    // The rename itself must survive a power loss as well.
    if let Ok(dir) = File::open(dir) {
        let _ = dir.sync_all();
    }
    fault::point("after", "write the kubeconfig");
    Ok(())
}

/// A file that gets its own name when it is complete. Those that killed processes have left in the
/// folder are removed: they hold keys.
pub(super) fn unfinished(dir: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    const PREFIX: &str = ".kubby-tmp-";
    // What cannot be removed is not in the way.
    let _ = fsutil::of_living_processes(dir, PREFIX);
    tempfile::Builder::new()
        .prefix(&format!("{PREFIX}{}-", std::process::id()))
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(dir)
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
