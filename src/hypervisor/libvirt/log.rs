//! Reading logs that running domains write into a pool.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use virt::connect::Connect;
use virt::storage_pool::StoragePool;

use super::connection::Libvirt;
use super::volume::lookup;
use super::{pool, stream};
use crate::error::{Kind, Result, ResultExt};

/// The most bytes of a log that [`read`] returns, from its end.
const LOG_LIMIT: u64 = 256 * 1024;

/// Returns the end of a file in a pool; empty while there is none.
pub(super) fn read(libvirt: &Libvirt, pool: &str, file: &str) -> Result<String> {
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
