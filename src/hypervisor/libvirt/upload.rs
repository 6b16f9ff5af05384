//! Uploads that are whole or not there.

use std::fs::{self, File};
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use virt::connect::Connect;
use virt::storage_vol::StorageVol;

use super::connection::Libvirt;
use super::failure::{self, Answer};
use super::pool;
use super::stream::{self, Segment};
use super::volume::{create, lookup, marker, remove};
use crate::error::{Kind, Result, ResultExt};
use crate::fault;
use crate::hypervisor::{Change, storage_xml};
use crate::progress::Step;

/// An upload that does not move for this long is given up.
const STALL_DEADLINE: Duration = Duration::from_secs(60);

pub(super) fn file(
    libvirt: &Libvirt,
    pool: &str,
    name: &str,
    source: &Path,
    step: &Step,
) -> Result<Change> {
    let unreadable = || format!("cannot read {}", source.display());
    let opened = File::open(source).context(Kind::Assets, unreadable)?;
    let length = opened.metadata().context(Kind::Assets, unreadable)?.len();
    if !prepare(libvirt, pool, name, length, true)? {
        return Ok(Change::Nothing);
    }
    let segments = stream::data_segments(&opened, length);
    let total = segments.iter().map(|s| s.end - s.start).sum();
    transfer(libvirt, pool, name, opened, segments, &mut |done| {
        step.bytes(done, Some(total))
    })?;
    Ok(Change::Done)
}

pub(super) fn bytes(libvirt: &Libvirt, pool: &str, name: &str, content: &[u8]) -> Result<()> {
    let length = content.len() as u64;
    prepare(libvirt, pool, name, length, false)?;
    let source = Cursor::new(content.to_vec());
    let whole = vec![Segment {
        start: 0,
        end: length,
    }];
    transfer(libvirt, pool, name, source, whole, &mut |_| {})
}

/// Makes an empty volume for an upload; returns false when there is nothing to upload, because
/// `keep_complete` is set and a complete volume of that name is there.
fn prepare(
    libvirt: &Libvirt,
    pool: &str,
    name: &str,
    length: u64,
    keep_complete: bool,
) -> Result<bool> {
    let what = format!("make the volume {name} in");
    let name = name.to_owned();
    libvirt.with_pool(&what, pool, move |pool| {
        // A file that libvirt's record lacks, such as one of a restored backup, would be in the way.
        pool::refresh(&pool)?;
        let complete = lookup(&pool, &name)?.is_some() && lookup(&pool, &marker(&name))?.is_some();
        if complete && keep_complete {
            return Ok(false);
        }
        remove(&pool, &name)?;
        let xml = storage_xml::volume(&name, length, None)?;
        create(&pool, &xml)?;
        Ok(true)
    })
}

/// Runs an upload on a thread of its own, so that a daemon that hangs does not hang kubby, and
/// marks the volume complete. Whatever goes wrong, no volume with a marker is left.
fn transfer(
    libvirt: &Libvirt,
    pool: &str,
    name: &str,
    source: impl Read + Seek + Send + 'static,
    segments: Vec<Segment>,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let what = format!("upload the volume {name} to the storage pool {pool}");
    let (sent, receiver) = mpsc::channel();
    let target = Target {
        connection: libvirt.connection.clone(),
        pool: pool.to_owned(),
        name: name.to_owned(),
        local: libvirt.is_local(),
    };
    let thread = std::thread::spawn(move || target.fill(source, segments, &sent));
    let mut done = 0;
    loop {
        match receiver.recv_timeout(STALL_DEADLINE) {
            Ok(bytes) => {
                done += bytes;
                progress(done);
            }
            Err(RecvTimeoutError::Timeout) => {
                // The thread ends when it finds the channel closed.
                return Err(failure::no_answer(&libvirt.uri, &what, STALL_DEADLINE));
            }
            Err(RecvTimeoutError::Disconnected) => {
                let answer = thread.join();
                let answer = answer.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                return answer.map_err(|failure| failure.explain(&what));
            }
        }
    }
}

/// The volume that an upload fills.
struct Target {
    connection: Connect,
    pool: String,
    name: String,
    local: bool,
}

impl Target {
    fn fill(
        &self,
        mut source: impl Read + Seek,
        segments: Vec<Segment>,
        sent: &Sender<u64>,
    ) -> Answer<()> {
        let pool = pool::require(&self.connection, &self.pool)?;
        let volume = pool.lookup_storage_vol_by_name(&self.name)?;
        let file = self.open(&volume, File::options().write(true));
        let filled = || -> Answer<()> {
            for segment in segments {
                source
                    .seek(SeekFrom::Start(segment.start))
                    .context(Kind::Assets, || "cannot read the file to upload".into())?;
                match &file {
                    Some(file) => stream::write(file, segment, &mut source, sent)?,
                    None => stream::send(&self.connection, &volume, segment, &mut source, sent)?,
                }
            }
            fault::point("unmarked", "upload");
            // Otherwise the marker could survive a power loss that the content did not.
            if let Some(file) = self.open(&volume, File::options().read(true)) {
                let _ = file.sync_data();
            }
            let xml = storage_xml::volume(&marker(&self.name), 0, None)?;
            create(&pool, &xml)?;
            Ok(())
        };
        filled().inspect_err(|_| {
            // The first error is the one to report; without a marker the rest is harmless.
            let _ = remove(&pool, &self.name);
        })
    }

    /// Opens the volume's file where it is on this host and this user may: root may, a member of
    /// the group `libvirt` may not. Writing to it takes a quarter of the time that libvirt's
    /// stream takes.
    fn open(&self, volume: &StorageVol, options: &fs::OpenOptions) -> Option<File> {
        let path = volume.path().ok().filter(|_| self.local)?;
        let file = options.open(path).ok()?;
        file.metadata().ok()?.is_file().then_some(file)
    }
}
