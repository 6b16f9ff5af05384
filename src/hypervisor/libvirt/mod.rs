//! The implementation of [`Hypervisor`] over libvirt, the only user of the `virt` crate.

mod connection;
mod domain;
mod failure;
mod pool;
mod saving;
mod stream;
mod upload;
mod volume;

pub(crate) use connection::library_version;
pub use connection::{Libvirt, default_uri};

use std::path::{Path, PathBuf};

use super::forward::{self, PortForward};
use super::{
    Change, Domain, DomainSpec, Forwarding, HostInfo, Hypervisor, POOL_MARK, Pool, State, Volume,
};
use crate::error::{Error, Result};
use crate::fault;
use crate::progress::Step;

impl Hypervisor for Libvirt {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn host(&self) -> Result<HostInfo> {
        self.host_info()
    }

    fn ensure_pool(&self, pool: &str, target: &Path) -> Result<Change> {
        let target = target.to_str().map(str::to_owned).ok_or_else(|| {
            let message = format!("the directory {} is not valid UTF-8", target.display());
            Error::usage(message)
        })?;
        let what = format!("set up the storage pool {pool} in {target}");
        let pool = pool.to_owned();
        fault::step("make the pool", || {
            self.call(&what, move |c| pool::ensure(c, &pool, &target))
        })
    }

    fn find_pool(&self, pool: &str) -> Result<Option<Pool>> {
        self.try_pool("ask about", pool, |found| {
            let Some(pool) = found else {
                return Ok(None);
            };
            Ok(Some(Pool {
                active: pool.is_active()?,
                target: pool::target(&pool)?,
            }))
        })
    }

    fn pool_available_bytes(&self, pool: &str) -> Result<u64> {
        self.with_pool("ask for the free space of", pool, |pool| {
            // Only a look at the directory renews the figure.
            pool::refresh(&pool)?;
            Ok(pool.info()?.available)
        })
    }

    fn refresh_pool(&self, pool: &str) -> Result<()> {
        self.with_pool("refresh", pool, |pool| Ok(pool::refresh(&pool)?))
    }

    fn remove_pool(&self, pool: &str) -> Result<bool> {
        fault::step("remove the pool", || {
            self.try_pool("remove", pool, |found| {
                let Some(pool) = found else {
                    return Ok(true);
                };
                if pool.is_active()? {
                    pool::refresh(&pool)?;
                    volume::remove_orphaned_markers(&pool)?;
                    if !pool
                        .list_volumes()?
                        .iter()
                        .all(|name| volume::is_mark(name))
                    {
                        return Ok(false);
                    }
                    volume::remove(&pool, POOL_MARK)?;
                    pool::while_busy(&pool, || pool.destroy())?;
                    // The directory is removed only if it is empty, and it need not be there at all.
                    let _ = pool.delete(0);
                }
                pool.undefine()?;
                Ok(true)
            })
        })
    }

    fn upload(&self, pool: &str, volume: &str, source: &Path, step: &Step) -> Result<Change> {
        fault::step("upload", || upload::file(self, pool, volume, source, step))
    }

    fn upload_bytes(&self, pool: &str, volume: &str, content: &[u8]) -> Result<()> {
        fault::step("upload bytes", || {
            upload::bytes(self, pool, volume, content)
        })
    }

    fn create_overlay(
        &self,
        pool: &str,
        volume: &str,
        backing: &str,
        bytes: u64,
    ) -> Result<Change> {
        let what = format!("make the volume {volume} over {backing} in");
        let (volume, backing) = (volume.to_owned(), backing.to_owned());
        fault::step("make the overlay", || {
            self.with_pool(&what, pool, move |pool| {
                volume::create_overlay(&pool, &volume, &backing, bytes)
            })
        })
    }

    fn delete_volume(&self, pool: &str, volume: &str) -> Result<Change> {
        let what = format!("delete the volume {volume} of");
        let volume = volume.to_owned();
        fault::step("delete a volume", || {
            self.try_pool(&what, pool, move |found| {
                let Some(pool) = found else {
                    return Ok(Change::Nothing);
                };
                if !pool.is_active()? {
                    pool.create(0)?;
                }
                if volume::remove(&pool, &volume)? == Change::Done {
                    return Ok(Change::Done);
                }
                // Files such as a console log get there without libvirt's storage driver knowing.
                pool::refresh(&pool)?;
                Ok(volume::remove(&pool, &volume)?)
            })
        })
    }

    fn volume_path(&self, pool: &str, volume: &str) -> Result<PathBuf> {
        let what = format!("find the volume {volume} of");
        let volume = volume.to_owned();
        self.with_pool(&what, pool, move |pool| {
            Ok(pool.lookup_storage_vol_by_name(&volume)?.path()?.into())
        })
    }

    fn list_volumes(&self, pool: &str) -> Result<Vec<Volume>> {
        let local = self.is_local();
        self.try_pool("list the volumes of", pool, move |found| match found {
            // A look into a folder that is gone would end the pool.
            Some(pool) if local && pool::has_no_folder(&pool)? => Ok(Vec::new()),
            Some(pool) if pool.is_active()? => volume::list(&pool),
            _ => Ok(Vec::new()),
        })
    }

    fn read_log(&self, pool: &str, file: &str) -> Result<String> {
        volume::read_log(self, pool, file)
    }

    fn find(&self, domain: &str) -> Result<Option<Domain>> {
        self.try_domain("ask about", domain, |domain| Ok(domain::describe(&domain)?))
    }

    fn definition(&self, domain: &str) -> Result<Option<String>> {
        self.try_domain("ask for the definition of", domain, |domain| {
            Ok(domain.xml_desc(0)?)
        })
    }

    fn list_owned(&self) -> Result<Vec<Domain>> {
        self.call("list the domains", domain::list_owned)
    }

    fn define(&self, spec: &DomainSpec) -> Result<()> {
        let xml = super::domain_xml::render(spec)?;
        fault::step("define", || self.define_xml(&spec.name, &xml))
    }

    fn start(&self, domain: &str) -> Result<Change> {
        fault::step("start", || {
            self.with_domain("start", domain, |domain| {
                if domain.is_active()? {
                    return Ok(Change::Nothing);
                }
                domain.create()?;
                Ok(Change::Done)
            })
        })
    }

    fn resume(&self, domain: &str) -> Result<Change> {
        let found = self.find(domain)?;
        if found.is_some_and(|found| found.state == State::Paused) {
            saving::end_abandoned(self, domain)?;
        }
        fault::step("resume", || {
            self.with_domain("resume", domain, |domain| {
                if !domain::is_paused(&domain)? {
                    return Ok(Change::Nothing);
                }
                domain.resume()?;
                Ok(Change::Done)
            })
        })
    }

    fn shutdown(&self, domain: &str) -> Result<Change> {
        fault::step("shut down", || {
            self.with_domain("shut down", domain, |domain| match domain.is_active()? {
                true => Ok(domain::ended(domain.shutdown())?),
                false => Ok(Change::Nothing),
            })
        })
    }

    fn destroy(&self, domain: &str) -> Result<Change> {
        fault::step("destroy", || {
            let stopped =
                self.try_domain("stop", domain, |domain| match domain.is_active()? {
                    true => Ok(domain::ended(domain.destroy())?),
                    false => Ok(Change::Nothing),
                })?;
            Ok(stopped.unwrap_or(Change::Nothing))
        })
    }

    fn undefine(&self, domain: &str) -> Result<Change> {
        fault::step("undefine", || {
            let removed = self.try_domain("remove", domain, |domain| domain::undefine(&domain))?;
            Ok(removed.unwrap_or(Change::Nothing))
        })
    }
}

/// Gives commands to QEMU's human monitor; there is no other way to these settings. libvirt marks the
/// machine as tainted by custom commands, which kubby's machines are anyway.
const HUMAN: u32 = virt::sys::VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP;

impl Forwarding for Libvirt {
    fn forwards(&self, domain: &str) -> Result<Vec<PortForward>> {
        let answer = self.monitor(domain, forward::LIST_COMMAND.to_owned(), HUMAN)?;
        Ok(forward::parse_list(&answer))
    }

    fn add_forward(&self, domain: &str, forward: PortForward) -> Result<()> {
        fault::step("add a forward", || {
            let answer = self.monitor(domain, forward.add_command(), HUMAN)?;
            forward::check_added(forward, &answer)
        })
    }

    fn remove_forward(&self, domain: &str, forward: PortForward) -> Result<Change> {
        fault::step("remove a forward", || {
            let answer = self.monitor(domain, forward.remove_command(), HUMAN)?;
            Ok(match forward::check_removed(&answer)? {
                true => Change::Done,
                false => Change::Nothing,
            })
        })
    }
}
