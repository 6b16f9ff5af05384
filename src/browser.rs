//! Opens an address or a file in the user's browser.

use std::ffi::OsStr;
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result, ResultExt};
use crate::{tool, wait};

/// The program that opens an address or a file with the program that the user has chosen for it.
pub(crate) const OPENER: &str = "xdg-open";

/// The time limit of the opener's report of a failure. Usually it ends at once; where no browser runs yet
/// it may become the browser itself, and then it is left alone.
const LIMIT: Duration = Duration::from_secs(20);

/// The pause between two checks whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Returns whether this host has the opener.
pub(crate) fn is_there() -> bool {
    tool::find(OPENER).is_some()
}

/// Opens an address or a file. The browser continues when kubby ends. All users of the host can read
/// `target`.
///
/// # Errors
/// [`Kind::State`] with the opener's output when it fails, [`Kind::Interrupted`] on Ctrl-C.
pub(crate) fn open(target: impl AsRef<OsStr>) -> Result<()> {
    open_with(Path::new(OPENER), target.as_ref(), LIMIT)
}

fn open_with(opener: &Path, target: &OsStr, limit: Duration) -> Result<()> {
    let what = || format!("cannot open {} by {}", target.display(), opener.display());
    // A file, not a pipe: the browser may keep it for hours.
    let mut said = tempfile::tempfile().context(Kind::State, what)?;
    let stderr = said.try_clone().context(Kind::State, what)?;
    let mut child = Command::new(opener)
        .arg(target)
        // A Ctrl-C that ends kubby does not reach the browser.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .context(Kind::State, what)?;
    let ended = wait::poll(Instant::now() + limit, LOOK_EVERY, || {
        child.try_wait().context(Kind::State, what)
    })?;
    let Some(status) = ended.filter(|status| !status.success()) else {
        return Ok(());
    };
    let mut text = String::new();
    let _ = said.rewind().and_then(|()| said.read_to_string(&mut text));
    Err(Error::state(what())
        .with_source(status.to_string())
        .with_detail("its output", text))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn opener(folder: &Path, script: &str) -> std::path::PathBuf {
        let path = folder.join("opener");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn a_failure_is_reported_and_a_browser_is_left_alone() {
        let tmp = tempfile::tempdir().unwrap();
        let mark = tmp.path().join("mark");
        let open = |script: &str, patience| {
            open_with(&opener(tmp.path(), script), mark.as_os_str(), patience)
        };
        let error = open("echo no browser >&2; exit 3", LIMIT).unwrap_err();
        assert_eq!(error.kind(), Kind::State);
        assert!(format!("{error:?}").contains("no browser"), "{error:?}");
        open("touch \"$1\"", LIMIT).unwrap();
        assert!(mark.exists());
        std::fs::remove_file(&mark).unwrap();
        open("sleep 1; touch \"$1\"", Duration::from_millis(100)).unwrap();
        assert!(!mark.exists(), "it was not waited for");
        let until = Instant::now() + Duration::from_secs(20);
        while !mark.exists() {
            assert!(Instant::now() < until, "it was ended");
            std::thread::sleep(LOOK_EVERY);
        }
    }
}
