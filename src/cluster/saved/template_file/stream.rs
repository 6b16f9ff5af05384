//! Reading the file itself, digested on the way.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result, ResultExt};
use crate::units::hex;

/// The file or standard input that is read, which digests what passes.
pub(super) struct Input {
    /// Its name in messages.
    pub label: String,
    from: Box<dyn Read>,
    digest: Sha256,
}

impl Input {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (label, from): (String, Box<dyn Read>) = if path == Path::new("-") {
            let stdin = io::stdin();
            if stdin.is_terminal() {
                return Err(Error::usage("standard input is a terminal, not a template")
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
    pub(super) fn finish(&mut self, wanted: Option<&str>) -> Result<()> {
        let fail = format!("cannot read {}", self.label);
        io::copy(self, &mut io::sink()).context(Kind::Assets, || fail)?;
        let found = hex(&std::mem::take(&mut self.digest).finalize());
        match wanted {
            Some(wanted) if !wanted.eq_ignore_ascii_case(&found) => Err(Error::assets(format!(
                "the SHA-256 of {} is {found}, not {wanted}",
                self.label
            ))),
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
