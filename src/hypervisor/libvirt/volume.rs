//! Volumes: overlays, listing, deletion, and the marks of finished uploads.

use std::path::PathBuf;

use virt::error::ErrorNumber;
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;

use super::connection::Libvirt;
use super::{failure, pool};
use crate::error::{Error, Kind, Result};
use crate::hypervisor::storage_xml::{self, VolumeFormat};
use crate::hypervisor::{Change, Volume};

/// An upload has come to its end when there is a volume of its name and this suffix. libvirt
/// cannot rename a volume, so a finished upload needs a mark.
const MARKER: &str = ".complete";

/// The name of the volume that marks another one's upload as finished.
pub(super) fn marker(volume: &str) -> String {
    format!("{volume}{MARKER}")
}

/// The volume of this name, if libvirt knows one.
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

/// Creates a volume by its XML; `what` is for the error.
pub(super) fn create(pool: &StoragePool, what: &str, xml: &str) -> Result<StorageVol> {
    pool::while_busy(pool, || StorageVol::create_xml(pool, xml, 0))
        .map_err(|e| failure::call(what, &e))
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
pub(super) fn sweep_markers(pool: &StoragePool) -> Result<(), virt::error::Error> {
    let names = pool.list_volumes()?;
    for name in &names {
        let orphan = name
            .strip_suffix(MARKER)
            .is_some_and(|v| !names.iter().any(|n| n == v));
        if orphan && let Some(volume) = lookup(pool, name)? {
            pool::while_busy(pool, || volume.delete(0))?;
        }
    }
    Ok(())
}

pub(super) fn create_overlay(
    libvirt: &Libvirt,
    pool: &str,
    name: &str,
    backing: &str,
    bytes: u64,
) -> Result<Change> {
    let (pool, name, backing) = (pool.to_owned(), name.to_owned(), backing.to_owned());
    let what = format!("make the volume {name} over {backing} in the storage pool {pool}");
    libvirt.call(&what.clone(), move |c| {
        let fail = |e| failure::call(&what, &e);
        let pool = pool::require(c, &pool)?;
        // A file that libvirt's record lacks would be overwritten, and it may be a node's disk.
        pool::while_busy(&pool, || pool.refresh(0)).map_err(fail)?;
        let base = pool.lookup_storage_vol_by_name(&backing).map_err(fail)?;
        let base = base.path().map_err(fail)?;
        if let Some(volume) = lookup(&pool, &name).map_err(fail)? {
            let found = storage_xml::backing_path(&volume.xml_desc(0).map_err(fail)?);
            if found.as_deref() == Some(base.as_str()) {
                return Ok(Change::Nothing);
            }
            return Err(Error::new(
                Kind::Hypervisor,
                format!(
                    "cannot {what}: it is there and based on {}",
                    found.as_deref().unwrap_or("nothing")
                ),
            ));
        }
        let xml = storage_xml::volume(&name, bytes, VolumeFormat::Qcow2, Some(&base))?;
        create(&pool, &what, &xml)?;
        Ok(Change::Done)
    })
}

pub(super) fn delete(libvirt: &Libvirt, pool: &str, name: &str) -> Result<Change> {
    let (pool, name) = (pool.to_owned(), name.to_owned());
    let what = format!("delete the volume {name} of the storage pool {pool}");
    libvirt.call(&what.clone(), move |c| {
        let fail = |e| failure::call(&what, &e);
        let Some(pool) = pool::lookup(c, &pool)? else {
            return Ok(Change::Nothing);
        };
        if !pool.is_active().map_err(fail)? {
            pool.create(0).map_err(fail)?;
        }
        if remove(&pool, &name).map_err(fail)? == Change::Done {
            return Ok(Change::Done);
        }
        // Files such as a console log get there without libvirt's storage driver knowing.
        pool::while_busy(&pool, || pool.refresh(0)).map_err(fail)?;
        remove(&pool, &name).map_err(fail)
    })
}

pub(super) fn path(libvirt: &Libvirt, pool: &str, name: &str) -> Result<PathBuf> {
    let (pool, name) = (pool.to_owned(), name.to_owned());
    let what = format!("find the volume {name} of the storage pool {pool}");
    libvirt.call(&what.clone(), move |c| {
        let pool = pool::require(c, &pool)?;
        let volume = pool.lookup_storage_vol_by_name(&name);
        volume
            .and_then(|v| v.path())
            .map(PathBuf::from)
            .map_err(|e| failure::call(&what, &e))
    })
}

pub(super) fn list(libvirt: &Libvirt, pool: &str) -> Result<Vec<Volume>> {
    let pool = pool.to_owned();
    let what = format!("list the volumes of the storage pool {pool}");
    libvirt.call(&what.clone(), move |c| {
        let fail = |e| failure::call(&what, &e);
        let Some(pool) = pool::lookup(c, &pool)? else {
            return Ok(Vec::new());
        };
        if !pool.is_active().map_err(fail)? {
            return Ok(Vec::new());
        }
        pool::while_busy(&pool, || pool.refresh(0)).map_err(fail)?;
        let names = pool.list_volumes().map_err(fail)?;
        let mut volumes = Vec::new();
        for name in names.iter().filter(|n| !n.ends_with(MARKER)) {
            let Some(volume) = lookup(&pool, name).map_err(fail)? else {
                continue;
            };
            let info = volume.info().map_err(fail)?;
            let uploaded = names.contains(&marker(name));
            let xml = volume.xml_desc(0).map_err(fail)?;
            volumes.push(Volume {
                name: name.clone(),
                allocation: info.allocation,
                uploaded,
                backing: storage_xml::backing_path(&xml).map(PathBuf::from),
            });
        }
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    })
}
