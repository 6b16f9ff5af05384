//! Digests of large sparse files, by all processors at once.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::units::hex;

/// The size of a page, in bytes.
pub(crate) const PAGE: usize = 4096;
/// A page of zeros, as most pages are; comparing with it is one call.
static ZEROS: [u8; PAGE] = [0; PAGE];
/// The bytes that one thread digests at a time.
const CHUNK: u64 = 64 << 20;

/// The SHA-256 of a short text, as hexadecimal digits.
pub(super) fn text(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// Whether a page, or the last part of one, holds nothing but zeros.
pub(crate) fn is_zero(page: &[u8]) -> bool {
    *page == ZEROS[..page.len()]
}

/// A digest of a file's size and of its pages that are not zero, with their places. Holes cost
/// nothing, and a copy that has zeros in place of holes has the same digest.
///
/// # Errors
/// Those of reading.
pub(crate) fn pages(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let chunks: Vec<u64> = (0..size.div_ceil(CHUNK)).collect();
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let share = chunks.len().div_ceil(threads).max(1);
    let parts: io::Result<Vec<Vec<u8>>> = std::thread::scope(|scope| {
        let workers: Vec<_> = chunks
            .chunks(share)
            .map(|mine| {
                let file = &file;
                scope.spawn(move || {
                    let mut digests = Vec::new();
                    for n in mine {
                        let end = size.min((n + 1) * CHUNK);
                        digests.extend(chunk(file, n * CHUNK, end)?);
                    }
                    Ok(digests)
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
            })
            .collect()
    });
    let mut all = Sha256::new();
    all.update(size.to_be_bytes());
    for part in parts? {
        all.update(part);
    }
    Ok(hex(&all.finalize()))
}

/// The digest of a part of a file: each page that is not zero, with its place before it.
fn chunk(file: &File, begin: u64, end: u64) -> io::Result<[u8; 32]> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 256 * PAGE];
    let mut at = begin;
    while at < end {
        at = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            // The threads share the file's position, but none uses it.
            Ok(data) => data - data % PAGE as u64,
            Err(Errno::NXIO) => break,
            // A file system that knows no holes is read in full.
            Err(_) => at,
        }
        .max(at);
        let length = buffer
            .len()
            .min(usize::try_from(end.saturating_sub(at)).unwrap_or(0));
        if length == 0 {
            break;
        }
        let read = read_at(file, &mut buffer[..length], at)?;
        if read == 0 {
            break;
        }
        for (n, page) in buffer[..read].chunks(PAGE).enumerate() {
            if !is_zero(page) {
                digest.update((at + (n * PAGE) as u64).to_be_bytes());
                digest.update(page);
            }
        }
        at += read as u64;
    }
    Ok(digest.finalize().into())
}

fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], at + read as u64)? {
            0 => break,
            n => read += n,
        }
    }
    Ok(read)
}
