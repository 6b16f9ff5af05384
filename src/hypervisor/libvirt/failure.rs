//! libvirt's errors turned into kubby's: what failed, in libvirt's words, and what to do.

use std::time::Duration;

use virt::error::ErrorNumber;

use crate::error::{Error, Kind};

/// Whether the error is of this number.
pub(super) fn is(error: &virt::error::Error, number: ErrorNumber) -> bool {
    error.code().is_known_and(|code| code == number)
}

/// libvirt is at work on the same object and says so; a moment later the call may succeed.
pub(super) fn is_busy(error: &virt::error::Error) -> bool {
    let text = error.message();
    [
        "has asynchronous jobs running",
        "is still in use",
        "is still being allocated",
    ]
    .iter()
    .any(|busy| text.contains(busy))
}

/// The error of a call that was to `what`, in the form `start the domain x`.
pub(super) fn call(what: &str, error: &virt::error::Error) -> Error {
    explain(what, error.message())
}

/// The error of writing to a volume's file, in the words that libvirt would have passed on.
pub(super) fn file(what: &str, error: &std::io::Error) -> Error {
    explain(what, &error.to_string())
}

/// The pure part of [`call`]: class and hints by libvirt's text.
fn explain(what: &str, text: &str) -> Error {
    if let Some(port) = taken_port(text) {
        return Error::new(
            Kind::Preflight,
            format!("cannot {what}: the TCP port {port} on 127.0.0.1 is taken"),
        )
        .with_hint(format!("see what uses it: ss -ltnp 'sport = :{port}'"))
        .with_hint("stop that program, or choose another port");
    }
    let failed = format!("cannot {what}");
    let (kind, hint) = if text.contains("No space left on device") {
        (
            Kind::Preflight,
            Some("free some space on the disk that holds the storage pool: df -h"),
        )
    } else if text.contains("failed to create directory") {
        (
            Kind::Preflight,
            Some("choose a home directory in which libvirt may make directories"),
        )
    } else if text.contains("Permission denied") {
        (
            Kind::Preflight,
            Some(
                "the user that QEMU runs as must be able to pass through every directory above \
                 its files: chmod o+x them, choose another home directory, or use --connect qemu:///session",
            ),
        )
    } else if text.contains("Cannot allocate memory") || text.contains("cannot set up guest memory")
    {
        (
            Kind::Preflight,
            Some("give the node less memory with --memory, or free some: free -h"),
        )
    } else if text.contains("already exists with uuid") {
        (
            Kind::Hypervisor,
            Some("another machine has this name: see virsh list --all"),
        )
    } else if text.contains("invalid domain type") || text.contains("KVM is not supported") {
        (
            Kind::Hypervisor,
            Some("this host has no KVM; use --accel tcg"),
        )
    } else if text.contains("client socket is closed") || text.contains("End of file while reading")
    {
        (
            Kind::Hypervisor,
            Some("libvirt's daemon ended; run the command again"),
        )
    } else {
        (Kind::Hypervisor, None)
    };
    let mut error = Error::new(kind, failed).with_source(text.trim().to_owned());
    if let Some(hint) = hint {
        error = error.with_hint(hint);
    }
    error
}

/// The port of QEMU's `Could not set up host forwarding rule 'tcp:127.0.0.1:40022-:22'`.
fn taken_port(text: &str) -> Option<u16> {
    let rule = text
        .split_once("Could not set up host forwarding rule '")?
        .1;
    let (host_end, _) = rule.split_once("-:")?;
    host_end.rsplit(':').next()?.parse().ok()
}

/// The error of a connection that could not be opened.
pub(super) fn connect(uri: &str, error: &virt::error::Error) -> Error {
    explain_connect(uri, error.message())
}

fn explain_connect(uri: &str, text: &str) -> Error {
    let denied = text.contains("Permission denied")
        || text.contains("authentication unavailable")
        || text.contains("access denied")
        || text.contains("authentication failed");
    let no_driver = text.contains("no connection driver available");
    let no_daemon = text.contains("does not exist in $PATH")
        || text.contains("Cannot find")
        || text.contains("Failed to find program");
    // polkit decides who may use the system's libvirt, and it is reached over D-Bus.
    let no_judge = text.contains("Unable to get system bus connection");
    let unreachable =
        text.contains("Cannot recv data") || text.contains("unable to connect to server");
    let (what, hint) = if unreachable {
        (
            "the host cannot be reached, or libvirt does not run there",
            "try to log in there with ssh, without a password, and run virsh list".to_owned(),
        )
    } else if no_judge {
        (
            "libvirt cannot ask polkit whether this user may use it, as there is no system D-Bus",
            "use your own libvirt with --connect qemu:///session, or run as root".to_owned(),
        )
    } else if no_driver && !uri.starts_with("qemu") {
        (
            "libvirt has no driver for it, and kubby needs QEMU's",
            "use --connect qemu:///session".to_owned(),
        )
    } else if no_driver || no_daemon {
        (
            "libvirt's QEMU driver is not installed",
            "on Debian: sudo apt-get install libvirt-daemon-system qemu-system-x86, or run scripts/setup"
                .to_owned(),
        )
    } else if denied {
        (
            "this user may not use libvirt",
            "join its group, then log in again: sudo usermod -aG libvirt \"$USER\"; or use your own: --connect qemu:///session"
                .to_owned(),
        )
    } else if text.contains("Failed to connect socket") || text.contains("Connection refused") {
        ("libvirt's daemon does not run", restart_hint(uri))
    } else {
        (
            "libvirt refused the connection",
            "check the URI given by --connect or LIBVIRT_DEFAULT_URI".to_owned(),
        )
    };
    Error::new(Kind::Preflight, format!("cannot connect to {uri}: {what}"))
        .with_source(text.trim().to_owned())
        .with_hint(hint)
}

/// How to get a daemon that answers.
pub(super) fn restart_hint(uri: &str) -> String {
    if uri.ends_with("/session") {
        "see why it does not start: virsh -c qemu:///session list".into()
    } else {
        "start it: sudo systemctl restart libvirtd; without systemd: sudo sh -c 'virtlogd -d; libvirtd -d'; or run scripts/setup"
            .into()
    }
}

/// The error of a call that did not return in time.
pub(super) fn no_answer(uri: &str, what: &str, deadline: Duration) -> Error {
    Error::new(
        Kind::Hypervisor,
        format!("cannot {what}: libvirt at {uri} did not answer within {} s", deadline.as_secs()),
    )
    .with_hint(
        "libvirt is slow when QEMU's user may not open /dev/kvm: sudo chown root:kvm /dev/kvm && sudo chmod 0660 /dev/kvm",
    )
    .with_hint(restart_hint(uri))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_calls_get_class_and_hint() {
        let table = [
            (
                "internal error: process exited while connecting to monitor: 2025-01-01T00:00:00Z qemu-system-x86_64: -netdev user,id=kubby0: Could not set up host forwarding rule 'tcp:127.0.0.1:40022-:22'",
                Kind::Preflight,
                "sport = :40022",
            ),
            (
                "Unable to write data: No space left on device",
                Kind::Preflight,
                "df -h",
            ),
            (
                "Cannot access storage file '/root/x/a.qcow2' (as uid:64055, gid:64055): Permission denied",
                Kind::Preflight,
                "chmod o+x",
            ),
            (
                "failed to create directory '/x': Permission denied",
                Kind::Preflight,
                "may make directories",
            ),
            (
                "qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory",
                Kind::Preflight,
                "--memory",
            ),
            (
                "operation failed: domain 'k' already exists with uuid 1-2",
                Kind::Hypervisor,
                "virsh list",
            ),
            (
                "internal error: client socket is closed",
                Kind::Hypervisor,
                "again",
            ),
        ];
        for (text, kind, hint) in table {
            let e = explain("start the domain k", text);
            assert_eq!(e.kind(), kind, "{text}");
            assert!(
                e.hints().iter().any(|h| h.contains(hint)),
                "{text}: {:?}",
                e.hints()
            );
            assert!(e.message().starts_with("cannot start the domain k"), "{e}");
        }
        let unknown = explain("x", "internal error: something else\n");
        assert!(unknown.hints().is_empty());
        assert_eq!(unknown.causes(), ["internal error: something else"]);
    }

    #[test]
    fn failures_to_connect_are_told_apart() {
        let table = [
            (
                "Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory",
                "does not run",
                "systemctl",
            ),
            (
                "Failed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied",
                "may not use",
                "usermod",
            ),
            (
                "authentication unavailable: no polkit agent available to authenticate action 'org.libvirt.unix.manage'",
                "may not use",
                "qemu:///session",
            ),
            (
                "no connection driver available for qemu:///system",
                "not installed",
                "apt-get install",
            ),
            (
                "binary 'virtqemud' does not exist in $PATH: No such file or directory",
                "not installed",
                "scripts/setup",
            ),
            (
                "internal error: Unable to get system bus connection: Could not connect: No such file or directory",
                "no system D-Bus",
                "qemu:///session",
            ),
            (
                "Cannot recv data: ssh: connect to host a port 22: Connection refused: Connection reset by peer",
                "cannot be reached",
                "ssh",
            ),
            ("invalid argument: no URI scheme", "refused", "--connect"),
        ];
        for (text, what, hint) in table {
            let e = explain_connect("qemu:///system", text);
            assert_eq!(e.kind(), Kind::Preflight);
            assert!(e.message().contains(what), "{text}: {e}");
            assert!(e.hints()[0].contains(hint), "{text}: {:?}", e.hints());
            assert_eq!(e.causes(), [text]);
        }
    }

    #[test]
    fn the_port_of_a_forwarding_rule_is_found() {
        let rule = |r: &str| format!("x: Could not set up host forwarding rule '{r}'\n");
        assert_eq!(taken_port(&rule("tcp:127.0.0.1:40022-:22")), Some(40022));
        assert_eq!(taken_port(&rule("tcp::6443-:6443")), Some(6443));
        assert_eq!(taken_port(&rule("garbage")), None);
        assert_eq!(taken_port("address in use"), None);
    }
}
