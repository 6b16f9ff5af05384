//! Bytes to and from volumes over libvirt's streams.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use rustix::fs::SeekFrom;
use virt::connect::Connect;
use virt::storage_vol::StorageVol;
use virt::stream::Stream;

use super::failure::{Answer, Failure};
use crate::error::{Error, Result};
use crate::interrupt;

/// The largest payload that goes in one message of libvirt's protocol; more is cut into several.
const CHUNK: usize = 262_120;

/// A hole shorter than this is sent as zeros: a stream of its own for what follows costs more.
const MIN_HOLE: u64 = 16 * 1024 * 1024;

/// A part of a file that holds data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub offset: u64,
    pub length: u64,
}

/// Returns the parts of a file that must be sent; between them are zeros, which stay unallocated.
pub(super) fn data_segments(file: &File, length: u64) -> Vec<Segment> {
    let whole = vec![Segment { offset: 0, length }];
    let mut segments = Vec::new();
    let mut at = 0;
    while at < length {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // There is no data from here to the end.
            Err(rustix::io::Errno::NXIO) => break,
            // The file system keeps no account of holes.
            Err(_) => return whole,
        };
        let Ok(end) = rustix::fs::seek(file, SeekFrom::Hole(start)) else {
            return whole;
        };
        let end = end.min(length);
        if end <= start {
            break;
        }
        segments.push(Segment {
            offset: start,
            length: end - start,
        });
        at = end;
    }
    merge(segments)
}

/// Joins segments with short holes between them.
fn merge(segments: Vec<Segment>) -> Vec<Segment> {
    let mut merged: Vec<Segment> = Vec::new();
    for next in segments {
        match merged.last_mut() {
            Some(last) if next.offset - (last.offset + last.length) < MIN_HOLE => {
                last.length = next.offset + next.length - last.offset;
            }
            _ => merged.push(next),
        }
    }
    merged
}

/// The receiver of a transfer's progress, and the flag that stops it.
pub(super) struct Watch {
    /// Gets the number of bytes of each chunk that is through.
    pub sent: Sender<u64>,
    /// Set when the transfer is no longer waited for.
    pub abandoned: Arc<AtomicBool>,
}

impl Watch {
    fn check(&self) -> Result<()> {
        if self.abandoned.load(Ordering::Relaxed) {
            return Err(Error::hypervisor("the transfer was given up"));
        }
        interrupt::check()
    }
}

/// Writes the next `segment.length` bytes of `source` to the volume, from `segment.offset` on.
pub(super) fn send(
    connection: &Connect,
    volume: &StorageVol,
    segment: Segment,
    source: &mut impl Read,
    watch: &Watch,
) -> Answer<()> {
    if segment.length == 0 {
        return Ok(());
    }
    let stream = Stream::new(connection, 0)?;
    volume.upload(&stream, segment.offset, segment.length, 0)?;
    let sent = in_chunks(segment.length, source, watch, |mut chunk, _| {
        while !chunk.is_empty() {
            let sent = usize::try_from(stream.send(chunk)?).unwrap_or(0);
            chunk = &chunk[sent.min(chunk.len())..];
        }
        Ok(())
    });
    if sent.is_err() {
        // Without this the daemon would wait for the rest.
        let _ = stream.abort();
        return sent;
    }
    Ok(stream.finish()?)
}

/// Does what [`send`] does to a volume whose file this process may write to.
pub(super) fn write(
    file: &File,
    segment: Segment,
    source: &mut impl Read,
    watch: &Watch,
) -> Answer<()> {
    in_chunks(segment.length, source, watch, |chunk, done| {
        file.write_all_at(chunk, segment.offset + done)
            .map_err(Failure::File)
    })
}

/// Hands `length` bytes of `source` to `take`, one chunk after the other, each with the number of
/// bytes before it.
fn in_chunks(
    length: u64,
    source: &mut impl Read,
    watch: &Watch,
    mut take: impl FnMut(&[u8], u64) -> Answer<()>,
) -> Answer<()> {
    let mut buffer = vec![0; CHUNK];
    let mut done = 0;
    while done < length {
        watch.check()?;
        let want = usize::try_from(length - done).unwrap_or(CHUNK).min(CHUNK);
        source.read_exact(&mut buffer[..want]).map_err(unreadable)?;
        take(&buffer[..want], done)?;
        let _ = watch.sent.send(want as u64);
        done += want as u64;
    }
    Ok(())
}

fn unreadable(error: io::Error) -> Error {
    let message = match error.kind() {
        io::ErrorKind::UnexpectedEof => "the file became shorter while it was uploaded",
        _ => "cannot read the file to upload",
    };
    Error::assets(message).with_source(error)
}

/// Reads a volume from `offset` to its end, at most `limit` bytes.
pub(super) fn receive(
    connection: &Connect,
    volume: &StorageVol,
    offset: u64,
    limit: u64,
) -> Result<Vec<u8>, virt::error::Error> {
    let stream = Stream::new(connection, 0)?;
    volume.download(&stream, offset, limit, 0)?;
    let mut content = Vec::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        let got = usize::try_from(stream.recv(&mut buffer)?)
            .unwrap_or(0)
            .min(CHUNK);
        if got == 0 {
            stream.finish()?;
            return Ok(content);
        }
        content.extend_from_slice(&buffer[..got]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn holes_are_left_out_and_short_ones_sent() {
        let segment = |offset, length| Segment { offset, length };
        let table = [
            (vec![], vec![]),
            (vec![segment(0, MIB)], vec![segment(0, MIB)]),
            (
                vec![segment(0, MIB), segment(2 * MIB, MIB)],
                vec![segment(0, 3 * MIB)],
            ),
            (
                vec![segment(0, MIB), segment(MIB + MIN_HOLE, MIB)],
                vec![segment(0, MIB), segment(MIB + MIN_HOLE, MIB)],
            ),
        ];
        for (segments, merged) in table {
            assert_eq!(merge(segments), merged);
        }
    }

    #[test]
    fn a_file_gets_its_bytes_where_they_belong_and_a_full_disk_is_reported() {
        let watch = Watch {
            sent: std::sync::mpsc::channel().0,
            abandoned: Arc::default(),
        };
        let write = |file: &File, mut source: &[u8]| {
            let segment = Segment {
                offset: 5,
                length: CHUNK as u64 + 7,
            };
            super::write(file, segment, &mut source, &watch).map_err(|e| e.explain("upload"))
        };
        let content: Vec<u8> = (0..=250).cycle().take(CHUNK + 7).collect();
        let file = tempfile::tempfile().unwrap();
        write(&file, &content).unwrap();
        let mut written = vec![0; content.len() + 5];
        file.read_exact_at(&mut written, 0).unwrap();
        assert!(written[..5] == [0; 5] && written[5..] == content);

        let error = write(&file, &content[..CHUNK]).unwrap_err();
        assert!(error.message().contains("shorter"), "{error}");
        let full = File::options().write(true).open("/dev/full").unwrap();
        let error = write(&full, &content).unwrap_err();
        assert_eq!(error.kind(), Kind::Preflight);
        assert!(error.hints()[0].contains("free some space"), "{error:?}");
    }

    #[test]
    fn segments_of_a_sparse_file_cover_its_data() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(100 * MIB).unwrap();
        file.write_all_at(&[1; 4096], 50 * MIB).unwrap();
        let segments = data_segments(&file, 100 * MIB);
        let total: u64 = segments.iter().map(|s| s.length).sum();
        let holds = |at| {
            segments
                .iter()
                .any(|s| s.offset <= at && at < s.offset + s.length)
        };
        assert!(holds(50 * MIB) && holds(50 * MIB + 4095), "{segments:?}");
        // A file system without holes sends all of it, which is right as well.
        assert!(total <= MIB || total == 100 * MIB, "{segments:?}");
        assert_eq!(data_segments(&tempfile::tempfile().unwrap(), 0), []);
    }
}
