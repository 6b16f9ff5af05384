//! Uploads that are whole or not there.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use virt::connect::Connect;
use virt::storage_vol::StorageVol;

use super::connection::Libvirt;
use super::stream::{self, Segment, Watch};
use super::volume::{create, lookup, marker, remove};
use super::{failure, pool};
use crate::error::{Kind, Result, ResultExt};
use crate::fault;
use crate::hypervisor::Change;
use crate::hypervisor::storage_xml::{self, VolumeFormat};
use crate::progress::Step;

/// An upload that does not move for so long is given up.
const STALL_DEADLINE: Duration = Duration::from_secs(60);

pub(super) fn file(
    libvirt: &Libvirt,
    pool: &str,
    name: &str,
    source: &Path,
    step: &Step,
) -> Result<Change> {
    let unreadable = || format!("cannot read {}", source.display());
    let mut opened = File::open(source).context(Kind::Assets, unreadable)?;
    let length = opened.metadata().context(Kind::Assets, unreadable)?.len();
    if !prepare(libvirt, pool, name, length, Existing::KeepComplete)? {
        return Ok(Change::Nothing);
    }
    let segments = stream::data_segments(&opened, length);
    let total = segments.iter().map(|s| s.length).sum();
    let parts = move |send: &mut SendPart<'_>| {
        for segment in segments {
            opened
                .seek(SeekFrom::Start(segment.offset))
                .context(Kind::Assets, || "cannot read the file to upload".into())?;
            send(segment, &mut opened)?;
        }
        Ok(())
    };
    transfer(libvirt, pool, name, parts, &mut |done| {
        step.bytes(done, Some(total))
    })?;
    Ok(Change::Done)
}

pub(super) fn bytes(libvirt: &Libvirt, pool: &str, name: &str, content: &[u8]) -> Result<()> {
    let length = content.len() as u64;
    prepare(libvirt, pool, name, length, Existing::Replace)?;
    let content = content.to_vec();
    let parts =
        move |send: &mut SendPart<'_>| send(Segment { offset: 0, length }, &mut content.as_slice());
    transfer(libvirt, pool, name, parts, &mut |_| {})
}

/// What to do with a complete volume of the name.
#[derive(Clone, Copy, PartialEq)]
enum Existing {
    KeepComplete,
    Replace,
}

/// Makes an empty volume for an upload; false when there is nothing to upload.
fn prepare(
    libvirt: &Libvirt,
    pool: &str,
    name: &str,
    length: u64,
    existing: Existing,
) -> Result<bool> {
    let (pool, name) = (pool.to_owned(), name.to_owned());
    let what = format!("make the volume {name} in the storage pool {pool}");
    libvirt.call(&what.clone(), move |c| {
        let fail = |e| failure::call(&what, &e);
        let pool = pool::require(c, &pool)?;
        // A file that libvirt's record lacks, such as one of a restored backup, would be in the way.
        pool::while_busy(&pool, || pool.refresh(0)).map_err(fail)?;
        let there = lookup(&pool, &name).map_err(fail)?.is_some();
        let complete = there && lookup(&pool, &marker(&name)).map_err(fail)?.is_some();
        if complete && existing == Existing::KeepComplete {
            return Ok(false);
        }
        remove(&pool, &name).map_err(fail)?;
        let xml = storage_xml::volume(&name, length, VolumeFormat::Raw, None)?;
        create(&pool, &what, &xml)?;
        Ok(true)
    })
}

/// Sends one part of a volume's content.
type SendPart<'a> = dyn FnMut(Segment, &mut dyn Read) -> Result<()> + 'a;

enum Message {
    Sent(u64),
    Ended(Result<()>),
}

/// Runs an upload on a thread of its own, so that a daemon that hangs does not hang kubby, and
/// marks the volume complete. Whatever goes wrong, no volume with a marker is left.
fn transfer(
    libvirt: &Libvirt,
    pool: &str,
    name: &str,
    parts: impl FnOnce(&mut SendPart<'_>) -> Result<()> + Send + 'static,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let what = format!("upload the volume {name} to the storage pool {pool}");
    let (sender, receiver) = mpsc::channel();
    let abandoned = Arc::new(AtomicBool::new(false));
    let worker = Worker {
        connection: libvirt.connection(),
        pool: pool.to_owned(),
        name: name.to_owned(),
        what: what.clone(),
        local: libvirt.is_local(),
    };
    let (progress_sender, flag) = (sender.clone(), Arc::clone(&abandoned));
    std::thread::spawn(move || {
        let sent = Box::new(move |bytes| {
            let _ = progress_sender.send(Message::Sent(bytes));
        });
        let result = worker.run(
            parts,
            Watch {
                sent,
                abandoned: flag,
            },
        );
        let _ = sender.send(Message::Ended(result));
    });
    let mut done = 0;
    loop {
        match receiver.recv_timeout(STALL_DEADLINE) {
            Ok(Message::Sent(bytes)) => {
                done += bytes;
                progress(done);
            }
            Ok(Message::Ended(result)) => return result,
            Err(_) => {
                abandoned.store(true, Ordering::Relaxed);
                return Err(failure::no_answer(
                    libvirt.connected_uri(),
                    &what,
                    STALL_DEADLINE,
                ));
            }
        }
    }
}

/// An upload under way.
struct Worker {
    connection: Connect,
    pool: String,
    name: String,
    what: String,
    local: bool,
}

impl Worker {
    fn run(
        &self,
        parts: impl FnOnce(&mut SendPart<'_>) -> Result<()>,
        mut watch: Watch,
    ) -> Result<()> {
        let fail = |e| failure::call(&self.what, &e);
        let pool = pool::require(&self.connection, &self.pool)?;
        let volume = pool.lookup_storage_vol_by_name(&self.name).map_err(fail)?;
        let file = self.open(&volume, File::options().write(true));
        let mut send = |segment: Segment, source: &mut dyn Read| match &file {
            Some(file) => stream::write(file, segment, source, &self.what, &mut watch),
            None => stream::send(
                &self.connection,
                &volume,
                segment,
                source,
                &self.what,
                &mut watch,
            ),
        };
        let result = parts(&mut send).and_then(|()| {
            fault::point("unmarked", "upload");
            self.settle(&volume);
            let xml = storage_xml::volume(&marker(&self.name), 0, VolumeFormat::Raw, None)?;
            create(&pool, &self.what, &xml).map(drop)
        });
        if result.is_err() {
            // The first error is the one to tell; without a marker the rest is harmless.
            let _ = remove(&pool, &self.name);
        }
        result
    }

    /// The volume's file where it is on this host and this user may open it so: root may, a member
    /// of the group `libvirt` may not. Writing to it takes a quarter of the time that libvirt's
    /// stream takes.
    fn open(&self, volume: &StorageVol, options: &fs::OpenOptions) -> Option<File> {
        let path = volume.path().ok().filter(|_| self.local)?;
        let file = options.open(path).ok()?;
        file.metadata().ok()?.is_file().then_some(file)
    }

    /// Gets the content to the disk before it is called complete, where we have the file at
    /// hand: the marker must not survive a power loss that the content did not.
    fn settle(&self, volume: &StorageVol) {
        if let Some(file) = self.open(volume, File::options().read(true)) {
            let _ = file.sync_data();
        }
    }
}
