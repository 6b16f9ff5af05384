//! libvirt's errors turned into kubby's: what failed, in libvirt's words, and what to do.
//!
//! libvirt's number and the part of it that failed decide wherever they can, because a daemon
//! writes its messages in the language of its own locale. Where text decides, it is English:
//!
//! - QEMU's words: libvirt starts QEMU with `LC_ALL=C` and passes on what it prints as it is.
//! - The words of libvirt's client library, which all failures to connect have: it takes the locale
//!   of the process that it is part of, and kubby never leaves the C locale.
//! - The operating system's words for an error number, such as `No space left on device`. The number
//!   itself does not get through libvirt's binding, and a daemon with another locale translates the
//!   words: such an error has no hint.

use std::time::Duration;

use virt::enumutil::Enum;
use virt::error::{ErrorDomain, ErrorNumber};

use crate::error::{Error, Kind};

/// libvirt's number of an error, and the part of libvirt that it comes from.
type Origin = Option<(ErrorNumber, ErrorDomain)>;

fn origin(error: &virt::error::Error) -> Origin {
    match (error.code(), error.domain()) {
        (Enum::Known(number), Enum::Known(domain)) => Some((number, domain)),
        _ => None,
    }
}

/// Returns whether the error is of this number.
pub(super) fn is(error: &virt::error::Error, number: ErrorNumber) -> bool {
    error.code().is_known_and(|code| code == number)
}

/// Returns what a look-up found; `None` where it failed because there is no such object.
pub(super) fn found<T>(
    result: Result<T, virt::error::Error>,
    missing: ErrorNumber,
) -> Result<Option<T>, virt::error::Error> {
    match result {
        Err(e) if is(&e, missing) => Ok(None),
        result => result.map(Some),
    }
}

/// Returns whether the storage driver may have refused because something else uses the pool or the
/// volume at this moment; a moment later the call may succeed. A few lasting errors have the same
/// numbers.
pub(super) fn may_be_busy(error: &virt::error::Error) -> bool {
    is_of_busy_storage(origin(error))
}

fn is_of_busy_storage(origin: Origin) -> bool {
    use ErrorNumber::{InternalError, OperationInvalid};
    matches!(
        origin,
        Some((InternalError | OperationInvalid, ErrorDomain::Storage))
    )
}

/// The reason why calls to libvirt did not succeed.
pub(super) enum Failure {
    /// libvirt's own error.
    Libvirt(virt::error::Error),
    /// libvirt's error when it was to make a pool's directory.
    Directory(virt::error::Error),
    /// The operating system's error when kubby wrote to a volume's file.
    File(std::io::Error),
    /// An error that says what failed already.
    Explained(Error),
}

/// The result of calls to libvirt before it is known what they were for.
pub(super) type Answer<T> = Result<T, Failure>;

impl From<virt::error::Error> for Failure {
    fn from(error: virt::error::Error) -> Self {
        Failure::Libvirt(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Explained(error)
    }
}

impl Failure {
    /// Returns the error of calls that were to `what`, in the form `start the domain x`.
    pub(super) fn explain(self, what: &str) -> Error {
        match self {
            Failure::Libvirt(e) => explain(what, origin(&e), e.message()),
            Failure::Directory(e) => explain_directory(what, origin(&e), e.message()),
            // In the words that libvirt would have passed on.
            Failure::File(e) => explain(what, None, &e.to_string()),
            Failure::Explained(e) => e,
        }
    }
}

fn explain_directory(what: &str, origin: Origin, text: &str) -> Error {
    match origin {
        Some((ErrorNumber::SystemError, _)) => Error::preflight(format!("cannot {what}"))
            .with_source(text.trim().to_owned())
            .with_hint("choose a home directory in which libvirt may make directories"),
        _ => explain(what, origin, text),
    }
}

/// Returns an error with class and hints.
fn explain(what: &str, origin: Origin, text: &str) -> Error {
    if let Some(port) = taken_port(text) {
        return Error::preflight(format!(
            "cannot {what}: the TCP port {port} on 127.0.0.1 is taken"
        ))
        .with_hint(format!("see what uses it: ss -ltnp 'sport = :{port}'"))
        .with_hint("stop that program, or choose another port");
    }
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let (kind, hint) = match origin {
        Some((ErrorNumber::OperationFailed, ErrorDomain::Domain)) => (
            Kind::Hypervisor,
            "another machine has this name: see virsh list --all",
        ),
        Some((_, ErrorDomain::Rpc)) => (
            Kind::Hypervisor,
            "libvirt's daemon ended; run the command again",
        ),
        _ if origin == Some((ErrorNumber::InvalidArg, ErrorDomain::Capabilities))
            || says(&["failed to initialize kvm", "failed to initialize KVM"]) =>
        {
            (Kind::Hypervisor, "this host has no KVM; use --accel tcg")
        }
        _ if says(&["No space left on device"]) => (
            Kind::Preflight,
            "free some space on the disk that holds the storage pool: df -h",
        ),
        _ if says(&["Permission denied"]) => (
            Kind::Preflight,
            "the user that QEMU runs as must be able to pass through every directory above its \
             files: chmod o+x them, choose another home directory, or use --connect qemu:///session",
        ),
        _ if says(&["Cannot allocate memory", "cannot set up guest memory"]) => (
            Kind::Preflight,
            "give the node less memory with --memory, or free some: free -h",
        ),
        _ => {
            return Error::hypervisor(format!("cannot {what}")).with_source(text.trim().to_owned());
        }
    };
    Error::new(kind, format!("cannot {what}"))
        .with_source(text.trim().to_owned())
        .with_hint(hint)
}

/// Returns the port of QEMU's `Could not set up host forwarding rule 'tcp:127.0.0.1:40022-:22'`.
fn taken_port(text: &str) -> Option<u16> {
    let rule = text
        .split_once("Could not set up host forwarding rule '")?
        .1;
    let (host_end, _) = rule.split_once("-:")?;
    host_end.rsplit(':').next()?.parse().ok()
}

/// Returns the error of a connection that could not be opened.
pub(super) fn connect(uri: &str, error: &virt::error::Error) -> Error {
    explain_connect(uri, origin(error), error.message())
}

fn explain_connect(uri: &str, origin: Origin, text: &str) -> Error {
    use ErrorNumber::{
        AccessDenied, AuthCancelled, AuthFailed, AuthUnavailable, NoConnect, OperationDenied,
    };
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let number = origin.map(|(number, _)| number);
    let (what, hint) = if matches!(origin, Some((_, ErrorDomain::Dbus))) {
        // polkit decides who may use the system's libvirt, and it is reached over D-Bus.
        (
            "libvirt cannot ask polkit whether this user may use it, as there is no system D-Bus",
            "use your own libvirt with --connect qemu:///session, or run as root",
        )
    } else if number == Some(NoConnect) && !uri.starts_with("qemu") {
        (
            "libvirt has no driver for it, and kubby needs QEMU's",
            "use --connect qemu:///session",
        )
    } else if number == Some(NoConnect)
        || says(&[
            "does not exist in $PATH",
            "Cannot find",
            "Failed to find program",
        ])
    {
        (
            "libvirt's QEMU driver is not installed",
            "on Debian: sudo apt-get install libvirt-daemon-system qemu-system-x86, or run scripts/setup",
        )
    } else if says(&["Cannot recv data", "unable to connect to server"]) {
        (
            "the host cannot be reached, or libvirt does not run there",
            "try to log in there with ssh, without a password, and run virsh list",
        )
    } else if matches!(
        number,
        Some(AuthUnavailable | AuthFailed | AuthCancelled | AccessDenied | OperationDenied)
    ) || says(&["Permission denied"])
    {
        (
            "this user may not use libvirt",
            "join its group, then log in again: sudo usermod -aG libvirt \"$USER\"; or use your own: --connect qemu:///session",
        )
    } else if says(&["Failed to connect socket", "Connection refused"]) {
        ("libvirt's daemon does not run", restart_hint(uri))
    } else {
        (
            "libvirt refused the connection",
            "check the URI given by --connect or LIBVIRT_DEFAULT_URI",
        )
    };
    Error::preflight(format!("cannot connect to {uri}: {what}"))
        .with_source(text.trim().to_owned())
        .with_hint(hint)
}

/// Returns the command that starts a daemon, or shows why it does not start.
pub(super) fn restart_hint(uri: &str) -> &'static str {
    if uri.ends_with("/session") {
        "see why it does not start: virsh -c qemu:///session list"
    } else {
        "start it: sudo systemctl restart libvirtd; without systemd: sudo sh -c 'virtlogd -d; libvirtd -d'; or run scripts/setup"
    }
}

/// Returns the error of a call that did not return in time.
pub(super) fn no_answer(uri: &str, what: &str, deadline: Duration) -> Error {
    Error::hypervisor(format!("cannot {what}: libvirt at {uri} did not answer within {} s", deadline.as_secs()),
    )
    .with_hint(
        "libvirt is slow when QEMU's user may not open /dev/kvm: sudo chown root:kvm /dev/kvm && sudo chmod 0660 /dev/kvm",
    )
    .with_hint(restart_hint(uri))
}

#[cfg(test)]
mod tests;
