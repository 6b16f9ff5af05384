//! Writing files whole: they are complete before they get their name.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use crate::error::{Kind, Result, ResultExt as _};
use crate::{fault, fsutil, process};

/// Replaces the kubeconfig by one of the same mode and owner, in one step.
pub(super) fn replace(path: &Path, text: &str) -> Result<()> {
    fault::point("before", "write the kubeconfig");
    let fail = || format!("cannot write the kubeconfig {}", path.display());
    let dir = fsutil::folder_of(path);
    let mut file = unfinished(dir).context(Kind::Kubeconfig, fail)?;
    file.write_all(text.as_bytes())
        .and_then(|()| take_over(path, file.as_file()))
        .and_then(|()| file.as_file().sync_all())
        .context(Kind::Kubeconfig, fail)?;
    fault::point_leaving("staged", "write the kubeconfig", || {
        file.disable_cleanup(true);
    });
    file.persist(path).context(Kind::Kubeconfig, fail)?;
    // The rename itself must survive a power loss as well.
    if let Ok(dir) = File::open(dir) {
        let _ = dir.sync_all();
    }
    fault::point("after", "write the kubeconfig");
    Ok(())
}

/// Gives a new file the owner and the mode of the one that it replaces, if there is one.
fn take_over(path: &Path, new: &File) -> std::io::Result<()> {
    let Ok(old) = fs::metadata(path) else {
        return Ok(());
    };
    let mine = new.metadata()?;
    if (old.uid(), old.gid()) != (mine.uid(), mine.gid()) {
        // Root editing a user's file must leave it the user's.
        fchown(new, Some(old.uid()), Some(old.gid()))?;
    }
    new.set_permissions(fs::Permissions::from_mode(
        old.permissions().mode() & 0o7777,
    ))
}

/// Makes a file, readable by its owner only, that gets its own name when it is complete. Those that
/// killed processes have left in the folder are removed: they hold keys.
pub(super) fn unfinished(dir: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    const PREFIX: &str = ".kubby-tmp-";
    // What cannot be removed is not in the way.
    let _ = fsutil::of_living_processes(dir, PREFIX);
    tempfile::Builder::new()
        .prefix(&format!("{PREFIX}{}-", process::id()))
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(dir)
}
