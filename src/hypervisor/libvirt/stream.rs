//! Bytes to and from volumes over libvirt's streams.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::Sender;

use rustix::fs::SeekFrom;
use virt::connect::Connect;
use virt::storage_vol::StorageVol;
use virt::stream::Stream;

use super::failure::{Answer, Failure};
use crate::error::Error;
use crate::interrupt;

/// The largest payload that goes in one message of libvirt's protocol; more is cut into several.
const CHUNK: usize = 262_120;

/// A hole shorter than this is sent as zeros: a stream of its own for what follows costs more.
const MIN_HOLE: u64 = 16 * 1024 * 1024;

/// A part of a file that holds data: the offsets of its begin and its end.
pub(super) type Segment = Range<u64>;

/// Returns the parts of a file that must be sent; between them are zeros, which stay unallocated.
pub(super) fn data_segments(file: &File, length: u64) -> Vec<Segment> {
    let whole = vec![Segment {
        start: 0,
        end: length,
    }];
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
        segments.push(start..end);
        at = end;
    }
    merge(segments)
}

/// Joins segments with short holes between them.
fn merge(segments: Vec<Segment>) -> Vec<Segment> {
    let mut merged: Vec<Segment> = Vec::new();
    for next in segments {
        match merged.last_mut() {
            Some(last) if next.start - last.end < MIN_HOLE => last.end = next.end,
            _ => merged.push(next),
        }
    }
    merged
}

/// Writes the next bytes of `source` to the segment of the volume. Sends the number of bytes of each chunk
/// that is through to `sent`, until that is no longer received.
pub(super) fn send(
    connection: &Connect,
    volume: &StorageVol,
    segment: Segment,
    source: &mut impl Read,
    sent: &Sender<u64>,
) -> Answer<()> {
    let length = segment.end - segment.start;
    if length == 0 {
        return Ok(());
    }
    let stream = Stream::new(connection, 0)?;
    volume.upload(&stream, segment.start, length, 0)?;
    let done = in_chunks(length, source, sent, |mut chunk, _| {
        while !chunk.is_empty() {
            let sent = usize::try_from(stream.send(chunk)?).unwrap_or(0);
            chunk = &chunk[sent.min(chunk.len())..];
        }
        Ok(())
    });
    if done.is_err() {
        // Without this the daemon would wait for the rest.
        let _ = stream.abort();
        return done;
    }
    Ok(stream.finish()?)
}

/// Does what [`send`] does to a volume whose file this process may write to.
pub(super) fn write(
    file: &File,
    segment: Segment,
    source: &mut impl Read,
    sent: &Sender<u64>,
) -> Answer<()> {
    in_chunks(segment.end - segment.start, source, sent, |chunk, done| {
        file.write_all_at(chunk, segment.start + done)
            .map_err(Failure::File)
    })
}

/// Hands `length` bytes of `source` to `take`, one chunk after the other, each with the number of
/// bytes before it.
fn in_chunks(
    length: u64,
    source: &mut impl Read,
    sent: &Sender<u64>,
    mut take: impl FnMut(&[u8], u64) -> Answer<()>,
) -> Answer<()> {
    let mut buffer = vec![0; CHUNK];
    let mut done = 0;
    while done < length {
        interrupt::check()?;
        let want = usize::try_from(length - done).unwrap_or(CHUNK).min(CHUNK);
        source.read_exact(&mut buffer[..want]).map_err(unreadable)?;
        take(&buffer[..want], done)?;
        let waited_for = sent.send(want as u64);
        waited_for.map_err(|_| Error::hypervisor("the transfer was given up"))?;
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
        let segment = |start, length| start..start + length;
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
        let (sent, _receiver) = std::sync::mpsc::channel();
        let write = |file: &File, mut source: &[u8]| {
            super::write(file, 5..CHUNK as u64 + 12, &mut source, &sent)
                .map_err(|e| e.explain("upload"))
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
        let total: u64 = segments.iter().map(|s| s.end - s.start).sum();
        let holds = |at| segments.iter().any(|s| s.contains(&at));
        assert!(holds(50 * MIB) && holds(50 * MIB + 4095), "{segments:?}");
        // A file system without holes sends all of it, which is right as well.
        assert!(total <= MIB || total == 100 * MIB, "{segments:?}");
        assert_eq!(data_segments(&tempfile::tempfile().unwrap(), 0), []);
    }
}
