//! Downloads that survive cut connections and that nothing uses before they are verified.
//!
//! [`ResumingReader`] resumes by itself, [`VerifyingReader`] turns a wrong SHA-256 into
//! a read error at the end, [`fetch_to_file`] puts both together with a temporary file. Failures
//! carry a [`Failure`], so that a caller can distinguish a host out of reach from a bad checksum.

mod checksums;
mod copy;
mod failure;
mod http;
mod reader;
mod verify;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil::WholeFile;
use crate::progress::{Progress as _, Silent, StepSink};

pub(crate) use checksums::{is_sha256, sha256_of};
pub(super) use copy::copy;
pub(crate) use failure::printable;
pub use failure::{Failure, failure, from_io};
pub use http::Limits;
pub use reader::ResumingReader;
pub(crate) use verify::VerifyingReader;

/// The media types of a download that can be of any.
pub(crate) const ANYTHING: &str = "*/*";

/// Downloads `url` to `dest`, which comes into being only when its SHA-256 is `expected`.
///
/// A file that changes on the server while it is fetched is fetched again, once.
///
/// # Errors
/// [`Kind::Assets`] with a [`Failure`] when the download or the verification fails, without one
/// when the disk does; [`Kind::Interrupted`] on Ctrl-C.
pub fn fetch_to_file(
    url: &str,
    dest: &Path,
    expected: &str,
    sink: &Arc<dyn StepSink>,
    limits: &Limits,
) -> Result<()> {
    let attempt = || {
        let reader = ResumingReader::open(url, ANYTHING, Arc::clone(sink), limits.clone())?;
        let reader = VerifyingReader::new(reader, expected, url);
        let read_failed = || format!("cannot read {}", printable(url));
        let fail = || format!("cannot write {}", dest.display());
        let mut file = WholeFile::create(dest, 0o600).context(Kind::Assets, fail)?;
        copy(reader, &mut file, read_failed, fail, |_| Ok(()))?;
        file.set_mode(0o644)
            .and_then(|()| file.finish())
            .context(Kind::Assets, fail)
    };
    match attempt() {
        Err(e) if failure(&e) == Some(Failure::Changed) => attempt(),
        result => result,
    }
}

/// Reads a small text, such as a checksum file: at most 1 MiB.
///
/// # Errors
/// As [`ResumingReader::open`]; also when the text is longer or not UTF-8.
pub fn fetch_text(url: &str, limits: &Limits) -> Result<String> {
    let bytes = fetch_bytes(url, ANYTHING, 1 << 20, limits)?;
    String::from_utf8(bytes).context(Kind::Assets, || format!("{} is not text", printable(url)))
}

/// Reads something small of one of the media types in `accept` into memory: at most `most` bytes.
///
/// # Errors
/// As [`ResumingReader::open`]; also when there is more.
pub(crate) fn fetch_bytes(
    url: &str,
    accept: &'static str,
    most: u64,
    limits: &Limits,
) -> Result<Vec<u8>> {
    let sink = Silent.step("").sink();
    let reader = ResumingReader::open(url, accept, sink, limits.clone())?;
    let mut bytes = Vec::new();
    reader
        .take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| from_io(e, || format!("cannot read {}", printable(url))))?;
    if bytes.len() as u64 > most {
        let message = format!("{} is bigger than {most} bytes", printable(url));
        return Err(Error::assets(message));
    }
    Ok(bytes)
}
