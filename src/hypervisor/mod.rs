//! Everything between kubby and libvirt: storage, virtual machines, acceleration.
//!
//! The rest of kubby works with [`Hypervisor`], so that its logic can be tested without libvirt;
//! [`Libvirt`] implements it and is the only user of the `virt` crate. The other modules are pure:
//! they decide, render and read, and touch no libvirt.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Result;
use crate::progress::Step;

pub(crate) mod accel;
pub(crate) mod boot_watch;
pub(crate) mod channel;
pub(crate) mod console;
pub(crate) mod domain_xml;
mod forward;
pub(crate) mod host;
mod kernel_args;
pub(crate) mod kvm;
mod libvirt;
mod objects;
pub(crate) mod owner;
pub(crate) mod ports;
pub(crate) mod reach;
pub(crate) mod saved_stream;
mod shutdown;
pub(crate) mod storage_xml;

pub use accel::{AccelChoice, Acceleration};
pub(crate) use boot_watch::{BootState, BootWatch};
pub use domain_xml::DomainSpec;
pub(crate) use domain_xml::Incoming;
pub use forward::PortForward;
pub(crate) use forward::Protocol;
pub use host::HostInfo;
pub(crate) use host::{Version, is_local, spare_time};
pub use kvm::AccelFacts;
#[cfg(test)]
pub(crate) use kvm::KvmDevice;
pub(crate) use libvirt::library_version;
pub use libvirt::{Libvirt, default_uri};
pub use objects::{Change, Domain, Owner, POOL_MARK, State};
pub(crate) use objects::{Pool, Volume};
pub use owner::{Foreign, Identity, foreign};
pub use shutdown::shut_down;

/// Ports of the host's loopback that lead into a running machine, changed while it runs. They last
/// as long as the machine runs: a new start begins with those of its definition.
///
/// Errors are of [`Kind::Hypervisor`](crate::error::Kind::Hypervisor) unless said otherwise.
pub trait Forwarding {
    /// Returns the ports that lead into the machine now.
    ///
    /// # Errors
    /// When the domain does not run.
    fn forwards(&self, domain: &str) -> Result<Vec<PortForward>>;

    /// Opens a port.
    ///
    /// # Errors
    /// [`Kind::Preflight`](crate::error::Kind::Preflight) when QEMU cannot listen on it.
    fn add_forward(&self, domain: &str, forward: PortForward) -> Result<()>;

    /// Closes a port; one that is not open is fine.
    ///
    /// # Errors
    /// When QEMU refuses.
    fn remove_forward(&self, domain: &str, forward: PortForward) -> Result<Change>;
}

/// Saving a running machine's memory, devices and disk to files, and starting from them.
///
/// Errors are of [`Kind::Hypervisor`](crate::error::Kind::Hypervisor) unless said otherwise.
pub trait Saving {
    /// Stops a machine's processors; its memory stays where it is. One that is paused is fine.
    ///
    /// # Errors
    /// When the domain does not run.
    fn pause(&self, domain: &str) -> Result<Change>;

    /// Writes memory and devices of a paused machine to a file that is there already and that
    /// QEMU may write to. The machine stays paused and can be resumed.
    ///
    /// # Errors
    /// When QEMU refuses, or cannot write the file.
    fn save_memory(&self, domain: &str, file: &Path) -> Result<()>;

    /// Freezes the disk that a domain writes to and lets it write to a new overlay of that disk
    /// from now on; `overlay` is the path of a file that is not there yet.
    ///
    /// # Errors
    /// When the domain does not run, or libvirt cannot make the overlay.
    fn switch_disk(&self, domain: &str, overlay: &Path) -> Result<()>;

    /// Returns the file that a domain's root disk is in, as its definition says.
    ///
    /// # Errors
    /// When libvirt does not answer.
    fn root_disk(&self, domain: &str) -> Result<Option<PathBuf>>;

    /// Returns the file that a running domain's memory is mapped from, where it began from saved
    /// memory.
    ///
    /// # Errors
    /// When libvirt does not answer.
    fn mapped_memory(&self, domain: &str) -> Result<Option<PathBuf>>;

    /// Loads saved memory and devices into a new run of a defined domain that is off, and leaves
    /// it paused, with no port of the host that leads into it. The definition for later starts
    /// stays as it is.
    ///
    /// # Errors
    /// When libvirt or QEMU refuses; the domain is off then.
    fn start_paused_from(&self, spec: &DomainSpec, incoming: &Incoming) -> Result<()>;

    /// Returns whether a domain waits for saved memory that will not come, because kubby was killed
    /// in [`start_paused_from`](Self::start_paused_from). Such a machine never runs, whatever
    /// libvirt calls its state.
    ///
    /// # Errors
    /// When libvirt or QEMU does not answer.
    fn is_half_loaded(&self, domain: &str) -> Result<bool>;

    /// Makes the ends of a machine's channel on the host, see [`DomainSpec::channel`].
    ///
    /// # Errors
    /// When the file system refuses.
    fn ensure_channel(&self, channel: &Path) -> Result<()>;

    /// Removes them; returns whether there were any.
    ///
    /// # Errors
    /// When the file system refuses.
    fn remove_channel(&self, channel: &Path) -> Result<bool>;

    /// Sends a script through the channel to a shell in the node, and waits for its end.
    ///
    /// # Errors
    /// [`Kind::NodeUnreachable`](crate::error::Kind::NodeUnreachable) when the node does not answer
    /// within `limit`, [`Kind::Unhealthy`](crate::error::Kind::Unhealthy) when the script fails.
    fn run_script(&self, channel: &Path, script: &str, limit: Duration) -> Result<()>;

    /// Makes an empty file that only QEMU's user may read and write.
    ///
    /// # Errors
    /// When the file system refuses.
    fn create_state_file(&self, path: &Path) -> Result<()>;
}

/// The operations on libvirt that kubby is built from. All are check-then-apply: repeating one
/// that succeeded changes nothing. Names are those of libvirt objects on [`uri`](Self::uri).
///
/// Unless said otherwise, errors are of [`Kind::Hypervisor`](crate::error::Kind::Hypervisor).
pub trait Hypervisor: Forwarding + Saving + Send + Sync {
    /// Returns the URI of the connection.
    fn uri(&self) -> &str;

    /// Asks what the host is and can do.
    ///
    /// # Errors
    /// When libvirt does not answer.
    fn host(&self) -> Result<HostInfo>;

    /// Makes sure that a directory pool of this name is defined, running and started with
    /// libvirt. The directory is made if it is missing.
    ///
    /// # Errors
    /// When a pool of this name has another directory, or libvirt cannot make the directory.
    fn ensure_pool(&self, pool: &str, target: &Path) -> Result<Change>;

    /// Returns whether there is a pool of this name.
    ///
    /// # Errors
    /// When libvirt does not answer.
    fn has_pool(&self, pool: &str) -> Result<bool> {
        Ok(self.find_pool(pool)?.is_some())
    }

    /// Returns the pool of this name, if there is one.
    ///
    /// # Errors
    /// When libvirt does not answer.
    fn find_pool(&self, pool: &str) -> Result<Option<Pool>>;

    /// Returns the free bytes on the pool's file system at this moment.
    ///
    /// # Errors
    /// When there is no such pool.
    fn pool_available_bytes(&self, pool: &str) -> Result<u64>;

    /// Lets libvirt look at the pool's directory again.
    ///
    /// # Errors
    /// When there is no such pool.
    fn refresh_pool(&self, pool: &str) -> Result<()>;

    /// Removes a pool and its directory if it has no volumes any more; returns whether it is gone now.
    ///
    /// # Errors
    /// When libvirt fails to.
    fn remove_pool(&self, pool: &str) -> Result<bool>;

    /// Uploads a file to a volume unless a complete one of that name is there, so the name should
    /// be derived from the content. An upload that was killed starts again; the caller needs a lock
    /// against another upload of the same name.
    ///
    /// # Errors
    /// Also [`Kind::Interrupted`](crate::error::Kind::Interrupted); nothing is left behind then.
    fn upload(&self, pool: &str, volume: &str, source: &Path, step: &Step) -> Result<Change>;

    /// Uploads a few bytes to a volume, replacing what it held.
    ///
    /// # Errors
    /// See [`upload`](Self::upload).
    fn upload_bytes(&self, pool: &str, volume: &str, content: &[u8]) -> Result<()>;

    /// Makes a thin qcow2 volume of `bytes` over the qcow2 volume `backing` of the same pool.
    ///
    /// # Errors
    /// When there is a volume of that name that is based on something else.
    fn create_overlay(&self, pool: &str, volume: &str, backing: &str, bytes: u64)
    -> Result<Change>;

    /// Deletes a volume; one that is not there is fine.
    ///
    /// # Errors
    /// When libvirt cannot delete it.
    fn delete_volume(&self, pool: &str, volume: &str) -> Result<Change>;

    /// Returns the path of a volume on libvirt's host.
    ///
    /// # Errors
    /// When there is no such volume.
    fn volume_path(&self, pool: &str, volume: &str) -> Result<PathBuf>;

    /// Returns the volumes of a pool; none if there is no such pool.
    ///
    /// # Errors
    /// When libvirt does not answer.
    fn list_volumes(&self, pool: &str) -> Result<Vec<Volume>>;

    /// Returns the end, at most 256 KiB, of a file in a pool that a running domain writes, such as
    /// its console log. Empty while there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    fn read_log(&self, pool: &str, file: &str) -> Result<String>;

    /// Returns the domain of this name, if there is one.
    ///
    /// # Errors
    /// When libvirt does not answer.
    fn find(&self, domain: &str) -> Result<Option<Domain>>;

    /// Returns the definition of a domain as XML, without passwords: of the running machine before
    /// that of later starts.
    ///
    /// # Errors
    /// When libvirt does not answer.
    fn definition(&self, domain: &str) -> Result<Option<String>>;

    /// Returns all domains that have kubby's mark, of every home directory, sorted by name.
    ///
    /// # Errors
    /// When libvirt does not answer.
    fn list_owned(&self) -> Result<Vec<Domain>>;

    /// Defines a domain or replaces the definition of the one with the same name and UUID, for
    /// its next start.
    ///
    /// # Errors
    /// When the name is in use with another UUID, or libvirt refuses the definition.
    fn define(&self, spec: &DomainSpec) -> Result<()>;

    /// Starts a domain.
    ///
    /// # Errors
    /// [`Kind::Preflight`](crate::error::Kind::Preflight) when a forwarded port is taken or QEMU's
    /// user may not read a file.
    fn start(&self, domain: &str) -> Result<Change>;

    /// Resumes a paused domain; one that runs is fine.
    ///
    /// # Errors
    /// When there is no such domain.
    fn resume(&self, domain: &str) -> Result<Change>;

    /// Presses the power button and returns at once; see [`shut_down`], which makes sure that the
    /// guest follows.
    ///
    /// # Errors
    /// When there is no such domain.
    fn shutdown(&self, domain: &str) -> Result<Change>;

    /// Stops a domain by force; one that is off or not there is fine.
    ///
    /// # Errors
    /// When QEMU cannot be ended.
    fn destroy(&self, domain: &str) -> Result<Change>;

    /// Forgets a domain with its saved state and snapshots; one that is not there is fine. A
    /// running one must be stopped before.
    ///
    /// # Errors
    /// When libvirt refuses.
    fn undefine(&self, domain: &str) -> Result<Change>;
}
