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
    let chunks = usize::try_from(size.div_ceil(CHUNK)).unwrap_or(usize::MAX);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let share = chunks.div_ceil(threads).max(1);
    let digests = |first: usize| -> io::Result<Vec<[u8; 32]>> {
        let mine = first..chunks.min(first + share);
        mine.map(|n| n as u64 * CHUNK)
            .map(|begin| chunk(&file, begin, size.min(begin + CHUNK)))
            .collect()
    };
    let parts: io::Result<Vec<_>> = std::thread::scope(|scope| {
        let digests = &digests;
        let firsts = (0..chunks).step_by(share);
        let workers: Vec<_> = firsts
            .map(|first| scope.spawn(move || digests(first)))
            .collect();
        let panicked = |_| Err(io::Error::other("a thread panicked"));
        let joined = workers.into_iter().map(|worker| worker.join());
        joined.map(|part| part.unwrap_or_else(panicked)).collect()
    });
    let mut all = Sha256::new();
    all.update(size.to_be_bytes());
    for part in parts?.into_iter().flatten() {
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
        let part = &mut buffer[..length];
        file.read_exact_at(part, at)?;
        for (n, page) in part.chunks(PAGE).enumerate() {
            if !is_zero(page) {
                digest.update((at + (n * PAGE) as u64).to_be_bytes());
                digest.update(page);
            }
        }
        at += length as u64;
    }
    Ok(digest.finalize().into())
}
