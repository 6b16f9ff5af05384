//! The libvirt implementation of [`Hypervisor`]: one file a concern.

mod connection;
mod domain;
mod failure;
mod forward;
mod log;
mod pool;
mod saving;
mod stream;
mod upload;
mod volume;

pub use connection::{Libvirt, default_uri, library_version};

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::channel;
use super::{
    Change, Domain, DomainSpec, Forwarding, HostInfo, Hypervisor, Incoming, Pool, PoolRemoval,
    PortForward, Saving, Volume,
};
use crate::error::Result;
use crate::fault;
use crate::progress::Step;

impl Hypervisor for Libvirt {
    fn uri(&self) -> &str {
        self.connected_uri()
    }

    fn host(&self) -> Result<HostInfo> {
        self.host_info()
    }

    fn ensure_pool(&self, pool: &str, target: &Path) -> Result<Change> {
        fault::step("make the pool", || pool::ensure(self, pool, target))
    }

    fn pool_available_bytes(&self, pool: &str) -> Result<u64> {
        pool::available_bytes(self, pool)
    }

    fn has_pool(&self, pool: &str) -> Result<bool> {
        pool::exists(self, pool)
    }

    fn find_pool(&self, pool: &str) -> Result<Option<Pool>> {
        pool::find(self, pool)
    }

    fn refresh_pool(&self, pool: &str) -> Result<()> {
        pool::refresh(self, pool)
    }

    fn remove_pool(&self, pool: &str) -> Result<PoolRemoval> {
        fault::step("remove the pool", || pool::remove(self, pool))
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
        fault::step("make the overlay", || {
            volume::create_overlay(self, pool, volume, backing, bytes)
        })
    }

    fn delete_volume(&self, pool: &str, volume: &str) -> Result<Change> {
        fault::step("delete a volume", || volume::delete(self, pool, volume))
    }

    fn volume_path(&self, pool: &str, volume: &str) -> Result<PathBuf> {
        volume::path(self, pool, volume)
    }

    fn list_volumes(&self, pool: &str) -> Result<Vec<Volume>> {
        volume::list(self, pool)
    }

    fn read_log(&self, pool: &str, file: &str) -> Result<String> {
        log::read(self, pool, file)
    }

    fn find(&self, domain: &str) -> Result<Option<Domain>> {
        domain::find(self, domain)
    }

    fn definition(&self, domain: &str) -> Result<Option<String>> {
        domain::definition(self, domain)
    }

    fn list_owned(&self) -> Result<Vec<Domain>> {
        domain::list_owned(self)
    }

    fn define(&self, spec: &DomainSpec) -> Result<()> {
        let xml = super::domain_xml::render(spec)?;
        fault::step("define", || self.define_xml(&spec.name, &xml))
    }

    fn start(&self, domain: &str) -> Result<Change> {
        fault::step("start", || domain::start(self, domain))
    }

    fn resume(&self, domain: &str) -> Result<Change> {
        if self
            .find(domain)?
            .is_some_and(|found| found.state == super::State::Paused)
        {
            saving::end_abandoned(self, domain)?;
        }
        fault::step("resume", || domain::resume(self, domain))
    }

    fn shutdown(&self, domain: &str) -> Result<Change> {
        fault::step("shut down", || domain::shutdown(self, domain))
    }

    fn destroy(&self, domain: &str) -> Result<Change> {
        fault::step("destroy", || domain::destroy(self, domain))
    }

    fn undefine(&self, domain: &str) -> Result<Change> {
        fault::step("undefine", || domain::undefine(self, domain))
    }
}

impl Saving for Libvirt {
    fn pause(&self, domain: &str) -> Result<Change> {
        fault::step("pause", || saving::pause(self, domain))
    }

    fn save_memory(&self, domain: &str, file: &Path) -> Result<()> {
        fault::step("save memory", || saving::save_memory(self, domain, file))
    }

    fn switch_disk(&self, domain: &str, overlay: &Path) -> Result<()> {
        fault::step("switch the disk", || {
            saving::switch_disk(self, domain, overlay)
        })
    }

    fn root_disk(&self, domain: &str) -> Result<Option<PathBuf>> {
        saving::root_disk(self, domain)
    }

    fn mapped_memory(&self, domain: &str) -> Result<Option<PathBuf>> {
        saving::mapped_memory(self, domain)
    }

    fn start_paused_from(&self, spec: &DomainSpec, incoming: &Incoming) -> Result<()> {
        fault::step("load memory", || {
            saving::start_paused_from(self, spec, incoming)
        })
    }

    fn is_half_loaded(&self, domain: &str) -> Result<bool> {
        saving::is_half_loaded(self, domain)
    }

    fn ensure_channel(&self, channel: &Path) -> Result<()> {
        fault::step("make the channel", || channel::ensure(channel))
    }

    fn remove_channel(&self, channel: &Path) -> Result<bool> {
        fault::step("remove the channel", || channel::remove(channel))
    }

    fn tell(&self, channel: &Path, script: &str, limit: Duration) -> Result<()> {
        fault::step("tell", || channel::run(channel, script, limit))
    }

    fn create_state_file(&self, path: &Path) -> Result<()> {
        fault::step("make a state file", || {
            saving::create_state_file(self, path)
        })
    }
}

impl Forwarding for Libvirt {
    fn forwards(&self, domain: &str) -> Result<Vec<PortForward>> {
        forward::list(self, domain)
    }

    fn add_forward(&self, domain: &str, forward: PortForward) -> Result<()> {
        fault::step("add a forward", || forward::add(self, domain, forward))
    }

    fn remove_forward(&self, domain: &str, forward: PortForward) -> Result<Change> {
        fault::step("remove a forward", || {
            forward::remove(self, domain, forward)
        })
    }
}
