//! Opens addresses and files in the user's browser.

use std::ffi::OsStr;
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result, ResultExt};
use crate::{interrupt, tool};

/// The program that opens an address or a file in the application that the user has chosen.
pub const OPENER: &str = "xdg-open";

/// The time for the opener to fail. It usually exits at once, but may become the browser itself if
/// none is running; then it is left running.
const PATIENCE: Duration = Duration::from_secs(20);

/// The interval of checks whether it has exited.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Returns whether this host has the opener.
pub fn is_there() -> bool {
    tool::find(OPENER).is_some()
}

/// Opens an address or a file. The browser keeps running when kubby ends. All users of the host can
/// read `target`.
///
/// # Errors
/// [`Kind::State`] with the opener's output if it fails, [`Kind::Interrupted`] on Ctrl-C.
pub fn open(target: impl AsRef<OsStr>) -> Result<()> {
    open_with(Path::new(OPENER), target.as_ref(), PATIENCE)
}

fn open_with(opener: &Path, target: &OsStr, patience: Duration) -> Result<()> {
    let what = || format!("cannot open {} with {}", target.display(), opener.display());
    // Not a pipe, because the browser may keep it open for hours.
    let mut said = tempfile::tempfile().context(Kind::State, what)?;
    let stderr = said.try_clone().context(Kind::State, what)?;
    let mut child = Command::new(opener)
        .arg(target)
        // A Ctrl-C for kubby does not reach another process group.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .context(Kind::State, what)?;
    let until = Instant::now() + patience;
    while Instant::now() < until {
        if let Some(status) = child.try_wait().context(Kind::State, what)? {
            if status.success() {
                return Ok(());
            }
            let mut text = String::new();
            let _ = said.rewind().and_then(|()| said.read_to_string(&mut text));
            return Err(Error::new(Kind::State, what())
                .with_source(status.to_string())
                .with_detail("its output", text));
        }
        interrupt::sleep(LOOK_EVERY)?;
    }
    Ok(())
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
    fn what_cannot_be_opened_is_told_and_a_browser_is_left_alone() {
        let tmp = tempfile::tempdir().unwrap();
        let mark = tmp.path().join("mark");
        let open = |script: &str, patience| {
            open_with(&opener(tmp.path(), script), mark.as_os_str(), patience)
        };
        let error = open("echo no browser >&2; exit 3", PATIENCE).unwrap_err();
        assert_eq!(error.kind(), Kind::State);
        assert!(format!("{error:?}").contains("no browser"), "{error:?}");
        open("touch \"$1\"", PATIENCE).unwrap();
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
