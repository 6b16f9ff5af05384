//! Reading logs that running domains write into a pool.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use virt::connect::Connect;
use virt::storage_pool::StoragePool;

use super::connection::Libvirt;
use super::volume::lookup;
use super::{failure, pool, stream};
use crate::error::{Kind, Result, ResultExt};

/// How much of a log [`read`] returns.
const LOG_LIMIT: u64 = 256 * 1024;

pub(super) fn read(libvirt: &Libvirt, pool: &str, file: &str) -> Result<String> {
    let (pool, file) = (pool.to_owned(), file.to_owned());
    let what = format!("read {file} of the storage pool {pool}");
    let local = libvirt.is_local();
    let content = libvirt.call(&what.clone(), move |c| {
        let handle = pool::require(c, &pool)?;
        if local {
            match read_end(&pool::target(&handle, &pool)?.join(&file)) {
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                // The system's libvirt keeps it from us, but hands it out.
                Err(e) if e.kind() == ErrorKind::PermissionDenied => {}
                result => return result.context(Kind::Hypervisor, || format!("cannot {what}")),
            }
        }
        download_end(c, &handle, &file).map_err(|e| failure::call(&what, &e))
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
    pool::while_busy(pool, || pool.refresh(0))?;
    let Some(volume) = lookup(pool, file)? else {
        return Ok(Vec::new());
    };
    let length = volume.info()?.capacity;
    stream::receive(
        connection,
        &volume,
        length.saturating_sub(LOG_LIMIT),
        LOG_LIMIT,
    )
}
