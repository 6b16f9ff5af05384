//! Compression, detected by the first bytes of a file and not by its name.

use std::io::{self, BufReader, Cursor, Read};

use flate2::read::MultiGzDecoder;

/// The number of bytes that are moved at once.
pub(super) const CHUNK: usize = 128 * 1024;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The largest window of zstd data, as a power of two: a decoder keeps that much in memory.
/// zstd's own levels need it up to 22; only `--long` and `--ultra` go beyond.
const ZSTD_WINDOW_LOG: u32 = 25;

/// Returns whether data with this beginning is compressed in a way that container runtimes know.
pub(super) fn is_compressed(start: &[u8]) -> bool {
    start.starts_with(&GZIP) || start.starts_with(&ZSTD)
}

/// Returns a reader of the plain data.
///
/// # Errors
/// When the first bytes cannot be read.
pub(super) fn open<'a>(source: &'a mut dyn Read) -> io::Result<Box<dyn Read + 'a>> {
    let mut start = Vec::new();
    source.take(ZSTD.len() as u64).read_to_end(&mut start)?;
    let gzip = start.starts_with(&GZIP);
    let zstd = start.starts_with(&ZSTD);
    let whole = Cursor::new(start).chain(source);
    if gzip {
        let buffered = BufReader::with_capacity(CHUNK, whole);
        Ok(Box::new(MultiGzDecoder::new(buffered)))
    } else if zstd {
        let mut decoder = zstd::stream::read::Decoder::new(whole)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG)?;
        Ok(Box::new(Explained(decoder)))
    } else {
        Ok(Box::new(BufReader::with_capacity(CHUNK, whole)))
    }
}

/// A zstd decoder whose errors have the kinds of the others.
struct Explained<R>(R);

impl<R: Read> Read for Explained<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|e| match e.kind() {
            io::ErrorKind::Other if e.to_string().contains("memory") => io::Error::new(
                io::ErrorKind::InvalidData,
                "it was compressed with a window of more than 32 MiB; leave --long and --ultra out",
            ),
            io::ErrorKind::Other if e.get_ref().is_some() && !crate::interrupt::requested() => {
                io::Error::new(io::ErrorKind::InvalidData, e.to_string())
            }
            _ => e,
        })
    }
}
