//! Files that are whole or not there, and standard output in their place.

use std::fs::{self, File, Permissions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{folder_of, name_of, remove_all};
use crate::error::{Error, Kind, Result, ResultExt};
use crate::units::hex;
use crate::{fault, interrupt};

/// The prefix of the names of files that get their own name when they are complete.
pub(crate) const UNFINISHED: &str = ".kubby-";

/// A file that gets its name when it is complete; until then it has another one in the same folder.
#[derive(Debug)]
pub(crate) struct WholeFile {
    file: tempfile::NamedTempFile,
    path: PathBuf,
}

impl WholeFile {
    /// Begins the file `path`; `mode` is its mode, such as `0o600`, which the umask narrows.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(crate) fn create(path: &Path, mode: u32) -> io::Result<Self> {
        let file = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(folder_of(path))?;
        Ok(WholeFile {
            file,
            path: path.to_owned(),
        })
    }

    /// Gives the file this mode, whatever the umask is.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        let file = self.file.as_file();
        file.set_permissions(Permissions::from_mode(mode))
    }

    /// Syncs the file to the disk and gives it its name, also where another file has that.
    ///
    /// # Errors
    /// When the file system refuses; a file that was there is untouched then.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.as_file().sync_all()?;
        let place = format!("write {}", name_of(&self.path));
        fault::point_leaving("staged", &place, || self.file.disable_cleanup(true));
        self.file.persist(&self.path)?;
        // The rename itself must survive a power loss as well.
        if let Ok(folder) = File::open(folder_of(&self.path)) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

impl Write for WholeFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.file.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Replaces a file's content atomically. `mode` is the file's mode, such as `0o600`.
///
/// # Errors
/// [`Kind::Internal`] when the file system refuses; the old file is then untouched.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let write = || {
        let mut file = WholeFile::create(path, mode)?;
        file.write_all(content)?;
        file.set_mode(mode)?;
        file.finish()
    };
    fault::step(&format!("write {}", name_of(path)), write).context(Kind::Internal, || {
        format!("cannot write {}", path.display())
    })
}

/// Removes the unfinished files that killed processes have left in a folder, and with `deep` in all
/// folders below it, in which no other process may work meanwhile.
///
/// # Errors
/// [`Kind::Internal`] when one cannot be removed.
pub(crate) fn remove_unfinished(dir: &Path, deep: bool) -> Result<()> {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if deep && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_unfinished(&path, deep)?;
        } else if !path.is_dir() && name_of(&path).starts_with(UNFINISHED) {
            remove_all(&path)?;
        }
    }
    Ok(())
}

/// The destination of a large output: a file, or standard output for the path `-`.
#[derive(Debug)]
pub(crate) enum Output {
    /// Standard output.
    Stdout(io::Stdout),
    /// A file.
    File(WholeFile),
}

impl Output {
    /// Opens the destination; a file gets this mode, which the umask narrows.
    ///
    /// # Errors
    /// [`Kind::Usage`] when the file system refuses.
    pub(crate) fn open(path: &Path, mode: u32) -> Result<Self> {
        if path == Path::new("-") {
            return Ok(Output::Stdout(io::stdout()));
        }
        let file = WholeFile::create(path, mode);
        file.map(Output::File)
            .context(Kind::Usage, || format!("cannot write {}", path.display()))
    }

    /// Completes the output.
    ///
    /// # Errors
    /// [`Kind::Internal`] when it cannot be written.
    pub(crate) fn finish(self) -> Result<()> {
        match self {
            Output::Stdout(mut out) => out
                .flush()
                .context(Kind::Internal, || "cannot write to standard output".into()),
            Output::File(file) => {
                let message = format!("cannot write {}", file.path.display());
                file.finish().context(Kind::Internal, || message)
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Output::Stdout(out) => out.write(buffer),
            Output::File(file) => file.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Output::Stdout(out) => out.flush(),
            Output::File(file) => file.flush(),
        }
    }
}

/// Checks before the work that an [`Output`] can go to `to`. For the messages: `what` it is, the
/// name of an example file, and the command that writes a file instead of standard output.
///
/// # Errors
/// [`Kind::Usage`] for a terminal, a folder, and a file in a folder that is not there.
pub(crate) fn check_destination(to: &Path, what: &str, example: &str, command: &str) -> Result<()> {
    let usage = |message: String| Error::usage(message);
    if to == Path::new("-") {
        if io::stdout().is_terminal() {
            let message =
                format!("standard output is a terminal, which {what} would fill with garbage");
            return Err(usage(message).with_hint(command));
        }
        return Ok(());
    }
    if to.is_dir() {
        let message = format!("{} is a folder, not a file to write", to.display());
        let file = to.join(example);
        return Err(
            usage(message).with_hint(format!("name a file in it, such as {}", file.display()))
        );
    }
    let folder = folder_of(to);
    if !folder.is_dir() {
        let message = format!("there is no folder {}", folder.display());
        return Err(usage(message).with_hint(format!("mkdir -p {}", folder.display())));
    }
    Ok(())
}

/// A writer that counts and digests what passes through it. It fails on Ctrl-C, which the caller
/// distinguishes from other failures by [`interrupt::check`].
pub(crate) struct Digesting<W> {
    inner: W,
    digest: Sha256,
    bytes: u64,
}

impl<W: Write> Digesting<W> {
    /// Writes to `inner`.
    pub(crate) fn new(inner: W) -> Self {
        Digesting {
            inner,
            digest: Sha256::new(),
            bytes: 0,
        }
    }

    /// Returns the inner writer, the number of bytes, and their SHA-256 in hexadecimal digits.
    pub(crate) fn finish(self) -> (W, u64, String) {
        (self.inner, self.bytes, hex(&self.digest.finalize()))
    }
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if interrupt::requested() {
            return Err(io::Error::other("interrupted"));
        }
        let n = self.inner.write(buffer)?;
        self.digest.update(&buffer[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atomic_write_sets_the_mode_and_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write_atomic(&path, b"one", 0o600).unwrap();
        write_atomic(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_not_finished_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "old").unwrap();
        let mut output = Output::open(&path, 0o600).unwrap();
        output.write_all(b"half").unwrap();
        drop(output);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

        let mut digesting = Digesting::new(Output::open(&path, 0o600).unwrap());
        digesting.write_all(b"new").unwrap();
        let (output, bytes, sha256) = digesting.finish();
        output.finish().unwrap();
        assert_eq!(
            (fs::read(&path).unwrap().as_slice(), bytes),
            (&b"new"[..], 3)
        );
        assert!(
            sha256.starts_with("11507a0e2f5e69d5dfa40a62a1bd7b6e"),
            "{sha256}"
        );
    }

    #[test]
    fn destinations_are_checked_before_the_work() {
        let dir = tempfile::tempdir().unwrap();
        let check = |to: &Path| check_destination(to, "a template", "x.tar", "write a file");
        check(&dir.path().join("file")).unwrap();
        for (to, message, hint) in [
            (dir.path().to_owned(), "is a folder", "x.tar"),
            (dir.path().join("no/file"), "there is no folder", "mkdir -p"),
        ] {
            let e = check(&to).unwrap_err();
            assert_eq!(e.kind(), Kind::Usage);
            assert!(e.message().contains(message), "{e}");
            assert!(e.hints()[0].contains(hint), "{:?}", e.hints());
        }
    }
}
