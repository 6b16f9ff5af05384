//! The file itself: where it comes from and where it goes, counted and digested on the way.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result, ResultExt};
use crate::units::hex;
use crate::{fsutil, interrupt};

/// Where the file goes; counts and digests what goes there.
pub struct Output {
    to: To,
    digest: Sha256,
    bytes: u64,
}

enum To {
    Stdout(io::Stdout),
    File(tempfile::NamedTempFile, PathBuf),
}

impl Output {
    pub fn open(path: &Path) -> Result<Self> {
        let to = if path == Path::new("-") {
            To::Stdout(io::stdout())
        } else {
            // Keys are in it.
            let file = tempfile::Builder::new()
                .prefix(".kubby-")
                .permissions(fs::Permissions::from_mode(0o600))
                .tempfile_in(fsutil::folder_of(path))
                .context(Kind::Usage, || format!("cannot write {}", path.display()))?;
            To::File(file, path.to_owned())
        };
        Ok(Output {
            to,
            digest: Sha256::new(),
            bytes: 0,
        })
    }

    pub fn finish(self) -> Result<(u64, String)> {
        match self.to {
            To::Stdout(mut out) => out
                .flush()
                .context(Kind::Internal, || "cannot write standard output".into())?,
            To::File(file, path) => {
                let fail = || format!("cannot write {}", path.display());
                file.as_file().sync_all().context(Kind::Internal, fail)?;
                file.persist(&path).context(Kind::Internal, fail)?;
            }
        }
        Ok((self.bytes, hex(&self.digest.finalize())))
    }
}

impl Write for Output {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if interrupt::check().is_err() {
            return Err(io::Error::other("interrupted"));
        }
        let n = match &mut self.to {
            To::Stdout(out) => out.write(buffer)?,
            To::File(file, _) => file.write(buffer)?,
        };
        self.digest.update(&buffer[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.to {
            To::Stdout(out) => out.flush(),
            To::File(file, _) => file.flush(),
        }
    }
}

/// Where the file comes from; counts and digests what is read.
pub struct Input {
    /// How messages call it.
    pub label: String,
    from: Box<dyn Read>,
    digest: Sha256,
}

impl Input {
    pub fn open(path: &Path) -> Result<Self> {
        let (label, from): (String, Box<dyn Read>) = if path == Path::new("-") {
            let stdin = io::stdin();
            if stdin.is_terminal() {
                return Err(Error::new(
                    Kind::Usage,
                    "standard input is a terminal, not a template",
                )
                .with_hint("kubby template import FILE"));
            }
            ("standard input".into(), Box::new(stdin))
        } else {
            let file = File::open(path)
                .context(Kind::Usage, || format!("cannot open {}", path.display()))?;
            (path.display().to_string(), Box::new(file))
        };
        Ok(Input {
            label,
            from,
            digest: Sha256::new(),
        })
    }

    /// Reads what is left, and compares the whole with what it is to be.
    pub fn finish(&mut self, wanted: Option<&str>) -> Result<()> {
        let fail = format!("cannot read {}", self.label);
        io::copy(self, &mut io::sink()).context(Kind::Assets, || fail)?;
        let found = hex(&std::mem::take(&mut self.digest).finalize());
        match wanted {
            Some(wanted) if !wanted.eq_ignore_ascii_case(&found) => Err(Error::new(
                Kind::Assets,
                format!("the SHA-256 of {} is {found}, not {wanted}", self.label),
            )),
            _ => Ok(()),
        }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.digest.update(&buffer[..n]);
        Ok(n)
    }
}
