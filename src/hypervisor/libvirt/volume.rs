//! Volumes: overlays, listing, deletion, and the marks of finished uploads.

use std::path::PathBuf;

use virt::error::ErrorNumber;
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;

use super::failure::{self, Answer};
use super::pool;
use crate::error::{Error, Result};
use crate::hypervisor::storage_xml::{self, VolumeFormat};
use crate::hypervisor::{Change, POOL_MARK, Volume};

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
    match pool.lookup_storage_vol_by_name(name) {
        Ok(volume) => Ok(Some(volume)),
        Err(e) if failure::is(&e, ErrorNumber::NoStorageVolume) => Ok(None),
        Err(e) => Err(e),
    }
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
    let xml = storage_xml::volume(name, bytes, VolumeFormat::Qcow2, Some(&base))?;
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
