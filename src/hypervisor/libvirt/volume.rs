//! Volumes: overlays, listing, deletion, the marks of finished uploads, and logs of running domains.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use virt::connect::Connect;
use virt::error::ErrorNumber;
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;

use super::connection::Libvirt;
use super::failure::{self, Answer};
use super::{pool, stream};
use crate::error::{Error, Kind, Result, ResultExt};
use crate::hypervisor::{Change, POOL_MARK, Volume, storage_xml};

/// The suffix of the volume that marks another one's upload as finished. libvirt cannot rename a
/// volume, so a finished upload needs a mark.
const MARKER: &str = ".complete";

/// Returns the name of the volume that marks another one's upload as finished.
pub(super) fn marker(volume: &str) -> String {
    format!("{volume}{MARKER}")
}

/// Returns whether a volume only says whose the pool is.
pub(super) fn is_mark(volume: &str) -> bool {
    volume.strip_suffix(MARKER).unwrap_or(volume) == POOL_MARK
}

/// Returns the volume of this name, if libvirt knows one.
pub(super) fn lookup(
    pool: &StoragePool,
    name: &str,
) -> Result<Option<StorageVol>, virt::error::Error> {
    let volume = pool.lookup_storage_vol_by_name(name);
    failure::found(volume, ErrorNumber::NoStorageVolume)
}

/// Creates a volume by its XML.
pub(super) fn create(pool: &StoragePool, xml: &str) -> Result<StorageVol, virt::error::Error> {
    pool::while_busy(pool, || StorageVol::create_xml(pool, xml, 0))
}

/// Removes a volume and its marker, the marker first.
pub(super) fn remove(pool: &StoragePool, name: &str) -> Result<Change, virt::error::Error> {
    let mut change = Change::Nothing;
    for name in [marker(name), name.to_owned()] {
        if let Some(volume) = lookup(pool, &name)? {
            pool::while_busy(pool, || volume.delete(0))?;
            change = Change::Done;
        }
    }
    Ok(change)
}

/// Removes the markers whose volume is gone.
pub(super) fn remove_orphaned_markers(pool: &StoragePool) -> Result<(), virt::error::Error> {
    let names = pool.list_volumes()?;
    for volume in names.iter().filter_map(|name| name.strip_suffix(MARKER)) {
        if !names.iter().any(|name| name == volume) {
            remove(pool, volume)?;
        }
    }
    Ok(())
}

/// Makes a thin volume over another one of the pool.
pub(super) fn create_overlay(
    pool: &StoragePool,
    name: &str,
    backing: &str,
    bytes: u64,
) -> Answer<Change> {
    // A file that libvirt's record lacks would be overwritten, and it may be a node's disk.
    pool::refresh(pool)?;
    let base = pool.lookup_storage_vol_by_name(backing)?.path()?;
    if let Some(volume) = lookup(pool, name)? {
        let found = storage_xml::backing_path(&volume.xml_desc(0)?);
        if found.as_deref() == Some(base.as_str()) {
            return Ok(Change::Nothing);
        }
        let found = found.as_deref().unwrap_or("nothing");
        let message = format!("the volume {name} exists and is based on {found}, not on {base}");
        return Err(Error::hypervisor(message).into());
    }
    let xml = storage_xml::volume(name, bytes, Some(&base))?;
    create(pool, &xml)?;
    Ok(Change::Done)
}

/// Lists the volumes of an active pool without their markers, sorted by name.
pub(super) fn list(pool: &StoragePool) -> Answer<Vec<Volume>> {
    pool::refresh(pool)?;
    let names = pool.list_volumes()?;
    let mut volumes = Vec::new();
    let is_content = |name: &&String| !name.ends_with(MARKER) && *name != POOL_MARK;
    for name in names.iter().filter(is_content) {
        let Some(volume) = lookup(pool, name)? else {
            continue;
        };
        volumes.push(Volume {
            name: name.clone(),
            allocation: volume.info()?.allocation,
            uploaded: names.contains(&marker(name)),
            backing: storage_xml::backing_path(&volume.xml_desc(0)?).map(PathBuf::from),
        });
    }
    volumes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(volumes)
}

/// The most bytes of a log that [`read_log`] returns, from its end.
const LOG_LIMIT: u64 = 256 * 1024;

/// Returns the end of a file in a pool; empty while there is none.
pub(super) fn read_log(libvirt: &Libvirt, pool: &str, file: &str) -> Result<String> {
    let what = format!("read {file} of the storage pool {pool}");
    let (pool, file, local) = (pool.to_owned(), file.to_owned(), libvirt.is_local());
    let content = libvirt.call(&what.clone(), move |c| {
        let pool = pool::require(c, &pool)?;
        if local {
            match read_end(&pool::target(&pool)?.join(&file)) {
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                // The system's libvirt keeps it from us, but hands it out.
                Err(e) if e.kind() == ErrorKind::PermissionDenied => {}
                result => {
                    return Ok(result.context(Kind::Hypervisor, || format!("cannot {what}"))?);
                }
            }
        }
        Ok(download_end(c, &pool, &file)?)
    })?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

fn read_end(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_LIMIT)))?;
    let mut content = Vec::new();
    file.take(LOG_LIMIT).read_to_end(&mut content)?;
    Ok(content)
}

fn download_end(
    connection: &Connect,
    pool: &StoragePool,
    file: &str,
) -> Result<Vec<u8>, virt::error::Error> {
    pool::refresh(pool)?;
    let Some(volume) = lookup(pool, file)? else {
        return Ok(Vec::new());
    };
    let offset = volume.info()?.capacity.saturating_sub(LOG_LIMIT);
    stream::receive(connection, &volume, offset, LOG_LIMIT)
}
