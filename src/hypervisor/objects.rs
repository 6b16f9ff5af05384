//! The objects of libvirt as data: domains, volumes and pools.

use std::path::PathBuf;
use std::time::Duration;

use uuid::Uuid;

/// The result of an operation that may have nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was made, started or removed now.
    Done,
    /// It was so already.
    Nothing,
}

/// The state of a virtual machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Running,
    /// Its processors are stopped, its memory is kept.
    Paused,
    /// It is defined but does not run.
    ShutOff,
    /// It crashed, and libvirt keeps what is left of it.
    Crashed,
    /// It is being shut down, sleeps, or is in a state that libvirt does not name.
    Other,
}

impl State {
    /// Returns whether QEMU runs or holds the memory: true for all but off and crashed.
    pub fn is_active(self) -> bool {
        !matches!(self, State::ShutOff | State::Crashed)
    }

    /// Returns the name for people and for JSON output.
    pub fn name(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Paused => "paused",
            State::ShutOff => "shut off",
            State::Crashed => "crashed",
            State::Other => "changing",
        }
    }
}

/// A virtual machine as libvirt knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// Its name in libvirt.
    pub name: String,
    /// Its identity.
    pub uuid: Uuid,
    /// Its state.
    pub state: State,
    /// The reason why it is not running, where libvirt knows; completes `it does not run: …`.
    pub reason: Option<String>,
    /// kubby's mark; `None` on a domain that kubby did not make.
    pub owner: Option<Owner>,
    /// The time that the host's processors have spent on it since it was started.
    pub cpu_time: Duration,
}

/// A volume of a storage pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name in the pool.
    pub name: String,
    /// The bytes it takes on the disk.
    pub allocation: u64,
    /// The upload of its content came to its end. Always false for an overlay.
    pub uploaded: bool,
    /// The path of the volume that it is an overlay of.
    pub backing: Option<PathBuf>,
}

/// The name of the volume that says whose a pool is. [`Hypervisor::list_volumes`](super::Hypervisor::list_volumes) leaves it out, and it
/// is removed with the pool.
pub const POOL_MARK: &str = "kubby-home";

/// A storage pool as libvirt knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// It is started, so that libvirt sees its volumes.
    pub active: bool,
    /// Its folder.
    pub target: PathBuf,
}

/// The owner of a domain, from its metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The profile that the domain belongs to.
    pub profile: String,
    /// kubby's home directory, in which the profile is recorded.
    pub home: PathBuf,
    /// The version of kubby that defined the domain.
    pub version: String,
}
