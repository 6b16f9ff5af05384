//! Directory pools.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use virt::connect::Connect;
use virt::error::ErrorNumber;
use virt::storage_pool::StoragePool;

use super::connection::Libvirt;
use super::{failure, volume};
use crate::error::{Error, Kind, Result};
use crate::hypervisor::{Change, Pool, PoolRemoval, storage_xml};

/// Time for what else uses a pool or volume: libvirt's own look at the directory after an upload,
/// or an upload of another kubby process. Less than the deadline of a call.
const BUSY_DEADLINE: Duration = Duration::from_secs(100);

/// Repeats a call as long as something else may be using the active pool, or a volume of it.
pub(super) fn while_busy<T>(
    pool: &StoragePool,
    mut work: impl FnMut() -> Result<T, virt::error::Error>,
) -> Result<T, virt::error::Error> {
    let end = Instant::now() + BUSY_DEADLINE;
    loop {
        match work() {
            // The same numbers say that the pool is not active, which lasts.
            Err(e)
                if failure::may_be_busy(&e)
                    && pool.is_active() == Ok(true)
                    && Instant::now() < end =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

/// The pool of this name, running or not, if there is one.
pub(super) fn lookup(connection: &Connect, pool: &str) -> Result<Option<StoragePool>> {
    match connection.lookup_storage_pool_by_name(pool) {
        Ok(found) => Ok(Some(found)),
        Err(e) if failure::is(&e, ErrorNumber::NoStoragePool) => Ok(None),
        Err(e) => Err(failure::call(
            &format!("look for the storage pool {pool}"),
            &e,
        )),
    }
}

/// The pool of this name, or an error that says how to get one.
pub(super) fn require(connection: &Connect, pool: &str) -> Result<StoragePool> {
    lookup(connection, pool)?.ok_or_else(|| {
        Error::new(Kind::Hypervisor, format!("there is no storage pool {pool}"))
            .with_hint("kubby start makes it anew")
    })
}

pub(super) fn exists(libvirt: &Libvirt, pool: &str) -> Result<bool> {
    let name = pool.to_owned();
    libvirt.call(&format!("look for the storage pool {pool}"), move |c| {
        Ok(lookup(c, &name)?.is_some())
    })
}

pub(super) fn find(libvirt: &Libvirt, pool: &str) -> Result<Option<Pool>> {
    let name = pool.to_owned();
    let what = format!("ask about the storage pool {pool}");
    libvirt.call(&what.clone(), move |c| {
        let Some(pool) = lookup(c, &name)? else {
            return Ok(None);
        };
        Ok(Some(Pool {
            active: pool.is_active().map_err(|e| failure::call(&what, &e))?,
            target: target(&pool, &name)?,
        }))
    })
}

pub(super) fn ensure(libvirt: &Libvirt, name: &str, target: &Path) -> Result<Change> {
    let target = target.to_str().map(str::to_owned).ok_or_else(|| {
        Error::new(
            Kind::Usage,
            format!("the directory {} is not valid UTF-8", target.display()),
        )
    })?;
    let name = name.to_owned();
    let what = format!("set up the storage pool {name} in {target}");
    libvirt.call(&what.clone(), move |c| {
        let fail = |e| failure::call(&what, &e);
        let mut change = Change::Nothing;
        let build = |pool: &StoragePool| {
            let built = pool.build(0).map_err(|e| failure::directory(&what, &e));
            built.and_then(|()| pool.create(0).map_err(fail))
        };
        let pool = match lookup(c, &name)? {
            Some(pool) => {
                check_target(&name, &pool.xml_desc(0).map_err(fail)?, &target)?;
                if !pool.is_active().map_err(fail)? {
                    change = Change::Done;
                    build(&pool)?;
                }
                pool
            }
            None => {
                change = Change::Done;
                let xml = storage_xml::pool(&name, &target)?;
                let pool = c.define_storage_pool_xml(&xml, 0).map_err(fail)?;
                build(&pool).inspect_err(|_| {
                    // Its name must stay free for a better directory.
                    let _ = pool.undefine();
                })?;
                pool
            }
        };
        if !pool.autostart().map_err(fail)? {
            pool.set_autostart(true).map_err(fail)?;
        }
        Ok(change)
    })
}

/// A pool of our name in another directory is not ours to use or to move.
fn check_target(name: &str, xml: &str, wanted: &str) -> Result<()> {
    let target = storage_xml::pool_target(xml).unwrap_or_default();
    if Path::new(&target)
        .components()
        .eq(Path::new(wanted).components())
    {
        return Ok(());
    }
    Err(Error::new(
        Kind::Hypervisor,
        format!("the storage pool {name} is in {target}, not in {wanted}"),
    )
    .with_hint(format!(
        "if nothing uses it any more, remove it: virsh pool-destroy {name}; virsh pool-undefine {name}"
    )))
}

pub(super) fn available_bytes(libvirt: &Libvirt, name: &str) -> Result<u64> {
    let name = name.to_owned();
    let what = format!("ask for the free space of the storage pool {name}");
    libvirt.call(&what.clone(), move |c| {
        let pool = require(c, &name)?;
        // Only a look at the directory renews the figure.
        while_busy(&pool, || pool.refresh(0))
            .and_then(|()| pool.info())
            .map(|info| info.available)
            .map_err(|e| failure::call(&what, &e))
    })
}

pub(super) fn refresh(libvirt: &Libvirt, name: &str) -> Result<()> {
    let name = name.to_owned();
    let what = format!("look at the storage pool {name} anew");
    libvirt.call(&what.clone(), move |c| {
        let pool = require(c, &name)?;
        while_busy(&pool, || pool.refresh(0)).map_err(|e| failure::call(&what, &e))
    })
}

pub(super) fn remove(libvirt: &Libvirt, name: &str) -> Result<PoolRemoval> {
    let name = name.to_owned();
    let what = format!("remove the storage pool {name}");
    libvirt.call(&what.clone(), move |c| {
        let fail = |e| failure::call(&what, &e);
        let Some(pool) = lookup(c, &name)? else {
            return Ok(PoolRemoval::Removed);
        };
        if pool.is_active().map_err(fail)? {
            while_busy(&pool, || pool.refresh(0)).map_err(fail)?;
            volume::sweep_markers(&pool).map_err(fail)?;
            let left = pool.list_volumes().map_err(fail)?;
            if !left.is_empty() {
                return Ok(PoolRemoval::Kept(left));
            }
            while_busy(&pool, || pool.destroy()).map_err(fail)?;
            // The directory goes only if it is empty, and it need not be there at all.
            let _ = pool.delete(0);
        }
        pool.undefine().map_err(fail)?;
        Ok(PoolRemoval::Removed)
    })
}

/// The directory of a pool on libvirt's host.
pub(super) fn target(pool: &StoragePool, name: &str) -> Result<PathBuf> {
    let xml = pool
        .xml_desc(0)
        .map_err(|e| failure::call(&format!("ask about the storage pool {name}"), &e))?;
    storage_xml::pool_target(&xml)
        .map(PathBuf::from)
        .ok_or_else(|| {
            Error::new(
                Kind::Hypervisor,
                format!("the storage pool {name} has no directory"),
            )
        })
}
