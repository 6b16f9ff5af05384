//! A reader whose end is an error unless the bytes are the expected ones.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

use super::failure;
use crate::error::Result;
use crate::units::hex;

/// Passes bytes on and hashes them; at the end of a stream with another SHA-256 it fails instead
/// of reporting the end. What was read before is not to be trusted until the end was reached.
#[derive(Debug)]
pub(crate) struct VerifyingReader<R> {
    inner: R,
    hash: Sha256,
    expected: String,
    what: String,
    verified: bool,
}

impl<R: Read> VerifyingReader<R> {
    /// Returns a reader that verifies `inner`; `expected` is a SHA-256 in hex, `what` names the
    /// stream in errors.
    pub(crate) fn new(inner: R, expected: &str, what: &str) -> Self {
        VerifyingReader {
            inner,
            hash: Sha256::new(),
            expected: expected.to_ascii_lowercase(),
            what: what.to_owned(),
            verified: false,
        }
    }

    /// Reads what is left and verifies: for consumers that stop at an end of their own, as a
    /// decompressor does.
    ///
    /// # Errors
    /// [`Kind::Assets`](crate::error::Kind::Assets) when reading fails or the digest is wrong.
    pub(crate) fn finish(mut self) -> Result<()> {
        let message = format!("cannot read {}", self.what);
        match io::copy(&mut self, &mut io::sink()) {
            Ok(_) => Ok(()),
            Err(e) => Err(failure::from_io(e, || message)),
        }
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.verified {
            return Ok(0);
        }
        let n = self.inner.read(buffer)?;
        if n > 0 {
            self.hash.update(&buffer[..n]);
            return Ok(n);
        }
        // A copy is finalized, so that reading on after the error fails again.
        let actual = hex(&self.hash.clone().finalize());
        if actual != self.expected {
            return Err(io::Error::other(failure::mismatch(
                &self.what,
                &self.expected,
                &actual,
            )));
        }
        self.verified = true;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::download::{Failure, failure, from_io};

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn the_right_bytes_pass() {
        let mut out = String::new();
        let mut reader = VerifyingReader::new(&b"abc"[..], &ABC.to_uppercase(), "x");
        reader.read_to_string(&mut out).unwrap();
        assert_eq!(out, "abc");
        reader.finish().unwrap();
    }

    #[test]
    fn wrong_bytes_fail_at_the_end_and_again_after_it() {
        let mut reader = VerifyingReader::new(&b"abd"[..], ABC, "the thing");
        let mut buffer = [0; 8];
        assert_eq!(reader.read(&mut buffer).unwrap(), 3);
        for _ in 0..2 {
            let e = from_io(reader.read(&mut buffer).unwrap_err(), || unreachable!());
            assert_eq!(failure(&e), Some(Failure::Checksum));
            assert!(
                e.message().contains(ABC) && e.message().contains("the thing"),
                "{e}"
            );
        }
        assert!(reader.finish().is_err());
    }

    #[test]
    fn finish_reads_the_rest() {
        let mut reader = VerifyingReader::new(&b"abc"[..], ABC, "x");
        reader.read_exact(&mut [0; 1]).unwrap();
        reader.finish().unwrap();
    }
}
