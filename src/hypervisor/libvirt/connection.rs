//! The connection: where to, opening it, and calls that cannot hang kubby.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use virt::connect::Connect;

use super::failure::{self, Answer};
use crate::error::{Error, Result};
use crate::hypervisor::host::{HostInfo, Version, is_local, meminfo};
use crate::units::Mebibytes;

/// Time for the daemon to answer the first call; a session daemon is started by it.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);

/// Time for any other call. Most take milliseconds, but the first one after QEMU changed makes
/// the daemon probe it again, which took 8 s on a slow machine.
const CALL_DEADLINE: Duration = Duration::from_secs(120);

/// A connection to libvirt. Cheap to share: calls from several threads are fine.
#[derive(Debug)]
pub struct Libvirt {
    pub(super) uri: String,
    pub(super) connection: Connect,
}

/// Returns the version of the libvirt client library that kubby runs with.
pub(crate) fn library_version() -> Version {
    // Only a null pointer fails here, and the binding passes none.
    Version::decode(virt::connect::Connect::version().unwrap_or_default())
}

/// Returns the URI to connect to: `--connect`, else `LIBVIRT_DEFAULT_URI`, else the system's libvirt
/// for root and the user's own for every other user.
pub fn default_uri(connect: Option<&str>) -> String {
    let environment = std::env::var("LIBVIRT_DEFAULT_URI").ok();
    choose_uri(
        connect,
        environment.as_deref(),
        rustix::process::geteuid().is_root(),
    )
}

fn choose_uri(connect: Option<&str>, environment: Option<&str>, root: bool) -> String {
    let asked = [connect, environment]
        .into_iter()
        .flatten()
        .find(|uri| !uri.is_empty());
    let default = if root {
        "qemu:///system"
    } else {
        "qemu:///session"
    };
    asked.unwrap_or(default).to_owned()
}

impl Libvirt {
    /// Connects to libvirt.
    ///
    /// # Errors
    /// [`Kind::Preflight`](crate::error::Kind::Preflight) when there is no daemon, no permission or no answer; says what to do.
    pub fn open(uri: &str) -> Result<Self> {
        // The default handler prints every error to stderr, also those that are handled.
        virt::error::clear_error_callback();
        let target = uri.to_owned();
        let opened = with_deadline(CONNECT_DEADLINE, move || Connect::open(Some(&target)));
        match opened {
            Some(Ok(connection)) => Ok(Libvirt {
                uri: uri.to_owned(),
                connection,
            }),
            Some(Err(e)) => Err(failure::connect(uri, &e)),
            None => Err(Error::preflight(format!(
                "libvirt at {uri} did not answer within {} s",
                CONNECT_DEADLINE.as_secs()
            ))
            .with_hint(failure::restart_hint(uri))),
        }
    }

    pub(super) fn is_local(&self) -> bool {
        is_local(&self.uri)
    }

    /// Runs calls to libvirt on a thread of their own and waits for them until the deadline.
    /// `what` says what is done, in the form `start the domain x`.
    pub(super) fn call<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce(&Connect) -> Answer<T> + Send + 'static,
    ) -> Result<T> {
        let connection = self.connection.clone();
        match with_deadline(CALL_DEADLINE, move || work(&connection)) {
            Some(answer) => answer.map_err(|failure| failure.explain(what)),
            None => Err(failure::no_answer(&self.uri, what, CALL_DEADLINE)),
        }
    }

    pub(super) fn host_info(&self) -> Result<HostInfo> {
        let mut info = self.call("ask about the host", |c| {
            let node = c.node_info()?;
            Ok(HostInfo {
                libvirt_version: Version::decode(c.lib_version()?),
                qemu_version: Version::decode(c.hyp_version()?),
                cpus: node.cpus,
                memory: Mebibytes(node.memory / 1024),
                available_memory: Mebibytes(c.free_memory()? / (1024 * 1024)),
                ..HostInfo::of_capabilities(&c.capabilities()?)?
            })
        })?;
        info.uri.clone_from(&self.uri);
        if self.is_local()
            && !self.uri.starts_with("test:")
            && let Ok(text) = std::fs::read_to_string("/proc/meminfo")
        {
            // libvirt adds up the memory of the NUMA nodes, which misses some on virtual hosts,
            // and counts no cache as free.
            info.memory = meminfo(&text, "MemTotal").unwrap_or(info.memory);
            info.available_memory = meminfo(&text, "MemAvailable").unwrap_or(info.available_memory);
        }
        Ok(info)
    }
}

/// Runs `work` on a thread; returns `None` when it has not ended by the deadline. The thread then
/// runs on, as a call within libvirt cannot be cancelled.
fn with_deadline<T: Send + 'static>(
    deadline: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let _ = sender.send(work());
    });
    match receiver.recv_timeout(deadline) {
        Ok(value) => Some(value),
        Err(RecvTimeoutError::Timeout) => None,
        // The thread panicked: panic here as well rather than lose that.
        Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uri_is_the_flag_then_the_environment_then_by_user() {
        let table = [
            (Some("test:///a"), Some("test:///b"), true, "test:///a"),
            (None, Some("test:///b"), true, "test:///b"),
            (None, Some(""), true, "qemu:///system"),
            (Some(""), None, false, "qemu:///session"),
            (None, None, true, "qemu:///system"),
            (None, None, false, "qemu:///session"),
        ];
        for (flag, environment, root, uri) in table {
            assert_eq!(choose_uri(flag, environment, root), uri);
        }
    }

    #[test]
    fn a_call_that_hangs_is_given_up() {
        let slow = with_deadline(Duration::from_millis(20), || {
            std::thread::sleep(Duration::from_millis(500));
        });
        assert_eq!(slow, None);
        assert_eq!(with_deadline(Duration::from_secs(10), || 7), Some(7));
    }
}
