//! Directory pools.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use virt::connect::Connect;
use virt::error::ErrorNumber;
use virt::storage_pool::StoragePool;

use super::connection::Libvirt;
use super::failure::{self, Answer, Failure};
use crate::error::{Error, Result};
use crate::fsutil;
use crate::hypervisor::{Change, storage_xml};

/// Time for what else uses a pool or volume: libvirt's own look at the directory after an upload,
/// or an upload of another kubby process. Less than the deadline of a call.
const BUSY_DEADLINE: Duration = Duration::from_secs(100);

impl Libvirt {
    /// Runs calls on a pool, running or not, if there is one; `what` completes `cannot … the storage
    /// pool x`.
    pub(super) fn try_pool<T: Send + 'static>(
        &self,
        what: &str,
        pool: &str,
        work: impl FnOnce(Option<StoragePool>) -> Answer<T> + Send + 'static,
    ) -> Result<T> {
        let what = format!("{what} the storage pool {pool}");
        let pool = pool.to_owned();
        self.call(&what, move |c| work(lookup(c, &pool)?))
    }

    /// Runs calls on a pool that has to be there; see [`try_pool`](Self::try_pool).
    pub(super) fn with_pool<T: Send + 'static>(
        &self,
        what: &str,
        pool: &str,
        work: impl FnOnce(StoragePool) -> Answer<T> + Send + 'static,
    ) -> Result<T> {
        let missing = no_pool(pool);
        self.try_pool(what, pool, move |found| work(found.ok_or(missing)?))
    }
}

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

/// Lets libvirt look at the pool's directory again.
pub(super) fn refresh(pool: &StoragePool) -> Result<(), virt::error::Error> {
    while_busy(pool, || pool.refresh(0))
}

fn lookup(connection: &Connect, pool: &str) -> Result<Option<StoragePool>, virt::error::Error> {
    let pool = connection.lookup_storage_pool_by_name(pool);
    failure::found(pool, ErrorNumber::NoStoragePool)
}

/// Returns the pool of this name.
///
/// # Errors
/// When there is none; the error says how to get one.
pub(super) fn require(connection: &Connect, pool: &str) -> Answer<StoragePool> {
    Ok(lookup(connection, pool)?.ok_or_else(|| no_pool(pool))?)
}

fn no_pool(pool: &str) -> Error {
    Error::hypervisor(format!("there is no storage pool {pool}"))
        .with_hint("create it again: kubby start")
}

/// Makes sure that there is an active pool of this name in this directory.
pub(super) fn ensure(connection: &Connect, name: &str, target: &str) -> Answer<Change> {
    let mut change = Change::Nothing;
    let build = |pool: &StoragePool| -> Answer<()> {
        pool.build(0).map_err(Failure::Directory)?;
        Ok(pool.create(0)?)
    };
    let pool = match lookup(connection, name)? {
        Some(pool) => {
            check_target(name, &pool.xml_desc(0)?, target)?;
            if !pool.is_active()? {
                change = Change::Done;
                build(&pool)?;
            }
            pool
        }
        None => {
            change = Change::Done;
            let xml = storage_xml::pool(name, target)?;
            let pool = connection.define_storage_pool_xml(&xml, 0)?;
            build(&pool).inspect_err(|_| {
                // Its name must stay free for a better directory.
                let _ = pool.undefine();
            })?;
            pool
        }
    };
    if !pool.autostart()? {
        pool.set_autostart(true)?;
    }
    Ok(change)
}

/// Refuses a pool of our name in another directory: it is not ours to use or to move.
fn check_target(name: &str, xml: &str, wanted: &str) -> Result<()> {
    let target = storage_xml::pool_target(xml).unwrap_or_default();
    if fsutil::same_place(Path::new(&target), Path::new(wanted)) {
        return Ok(());
    }
    let message = format!("the storage pool {name} is in {target}, not in {wanted}");
    Err(Error::state(message)
        .with_hint("if the home was moved, move it back; else choose another with KUBBY_HOME"))
}

/// Returns whether the directory of a pool on this host is gone.
pub(super) fn has_no_folder(pool: &StoragePool) -> Answer<bool> {
    // Where it cannot be seen it may be there.
    Ok(target(pool)?.try_exists().is_ok_and(|exists| !exists))
}

/// Returns the directory of a pool on libvirt's host.
pub(super) fn target(pool: &StoragePool) -> Answer<PathBuf> {
    let target = storage_xml::pool_target(&pool.xml_desc(0)?).map(PathBuf::from);
    target.ok_or_else(|| Error::hypervisor("the storage pool has no directory").into())
}
