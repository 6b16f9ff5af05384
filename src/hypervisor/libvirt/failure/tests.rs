use super::*;

/// A German message: where a number decides, the language does not matter.
const GERMAN: &str = "Auf den Vorgang kann nicht zugegriffen werden";

#[test]
fn failures_of_calls_get_class_and_hint() {
    use ErrorDomain::{Capabilities, Domain, Qemu, Rpc, Storage};
    use ErrorNumber::{InternalError, InvalidArg, OperationFailed, SystemError};
    let table = [
        (
            Some((InternalError, Qemu)),
            "internal error: process exited while connecting to monitor: 2025-01-01T00:00:00Z qemu-system-x86_64: -netdev user,id=kubby0: Could not set up host forwarding rule 'tcp:127.0.0.1:40022-:22'",
            Kind::Preflight,
            "sport = :40022",
        ),
        (
            Some((SystemError, Storage)),
            "Unable to write data: No space left on device",
            Kind::Preflight,
            "df -h",
        ),
        (None, "No space left on device", Kind::Preflight, "df -h"),
        (
            Some((SystemError, Storage)),
            "Cannot access storage file '/root/x/a.qcow2' (as uid:64055, gid:64055): Permission denied",
            Kind::Preflight,
            "chmod o+x",
        ),
        (
            Some((InternalError, Qemu)),
            "qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory",
            Kind::Preflight,
            "--memory",
        ),
        (
            Some((InternalError, Qemu)),
            "qemu-system-x86_64: failed to initialize kvm: No such file or directory",
            Kind::Hypervisor,
            "--accel tcg",
        ),
        (
            Some((InvalidArg, Capabilities)),
            GERMAN,
            Kind::Hypervisor,
            "--accel tcg",
        ),
        (
            Some((OperationFailed, Domain)),
            GERMAN,
            Kind::Hypervisor,
            "virsh list",
        ),
        (
            Some((InternalError, Rpc)),
            GERMAN,
            Kind::Hypervisor,
            "again",
        ),
        (Some((SystemError, Rpc)), GERMAN, Kind::Hypervisor, "again"),
    ];
    for (origin, text, kind, hint) in table {
        let e = explain("start the domain k", origin, text);
        assert_eq!(e.kind(), kind, "{text}");
        assert!(
            e.hints().iter().any(|h| h.contains(hint)),
            "{text}: {:?}",
            e.hints()
        );
        assert!(e.message().starts_with("cannot start the domain k"), "{e}");
    }
    let unknown = Some((InternalError, Qemu));
    let unknown = explain("x", unknown, "internal error: something else\n");
    assert!(unknown.hints().is_empty());
    assert_eq!(unknown.causes(), ["internal error: something else"]);
}

#[test]
fn a_directory_that_cannot_be_made_is_the_home_that_was_chosen() {
    let e = explain_directory(
        "x",
        Some((ErrorNumber::SystemError, ErrorDomain::None)),
        GERMAN,
    );
    assert_eq!(e.kind(), Kind::Preflight);
    assert!(e.hints()[0].contains("may make directories"), "{e:?}");
    let e = explain_directory(
        "x",
        Some((ErrorNumber::SystemError, ErrorDomain::Rpc)),
        GERMAN,
    );
    assert_eq!(e.causes(), [GERMAN]);
    let other = Some((ErrorNumber::InternalError, ErrorDomain::Storage));
    assert!(explain_directory("x", other, GERMAN).hints().is_empty());
}

#[test]
fn storage_that_is_in_use_is_known_by_its_number() {
    use ErrorDomain::{Qemu, Storage};
    use ErrorNumber::{InternalError, NoStoragePool, OperationInvalid, SystemError};
    for (number, domain, busy) in [
        (InternalError, Storage, true),
        (OperationInvalid, Storage, true),
        (SystemError, Storage, false),
        (NoStoragePool, Storage, false),
        (OperationInvalid, Qemu, false),
    ] {
        let origin = Some((number, domain));
        assert_eq!(is_of_busy_storage(origin), busy, "{origin:?}");
    }
    assert!(!is_of_busy_storage(None));
}

#[test]
fn failures_to_connect_are_told_apart() {
    use ErrorDomain::{Dbus, Polkit, Rpc};
    use ErrorNumber::{AuthUnavailable, InternalError, InvalidArg, NoConnect, SystemError};
    let table = [
        (
            (SystemError, Rpc),
            "Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory",
            "does not run",
            "systemctl",
        ),
        (
            (SystemError, Rpc),
            "Failed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied",
            "may not use",
            "usermod",
        ),
        (
            (AuthUnavailable, Polkit),
            GERMAN,
            "may not use",
            "qemu:///session",
        ),
        (
            (NoConnect, ErrorDomain::None),
            GERMAN,
            "not installed",
            "apt-get install",
        ),
        (
            (SystemError, Rpc),
            "binary 'virtqemud' does not exist in $PATH: No such file or directory",
            "not installed",
            "scripts/setup",
        ),
        (
            (InternalError, Dbus),
            GERMAN,
            "no system D-Bus",
            "qemu:///session",
        ),
        (
            (SystemError, Rpc),
            "Cannot recv data: ssh: connect to host a port 22: Connection refused: Connection reset by peer",
            "cannot be reached",
            "ssh",
        ),
        (
            (InvalidArg, ErrorDomain::Uri),
            "invalid argument: no URI scheme",
            "refused",
            "--connect",
        ),
    ];
    for (origin, text, what, hint) in table {
        let e = explain_connect("qemu:///system", Some(origin), text);
        assert_eq!(e.kind(), Kind::Preflight);
        assert!(e.message().contains(what), "{text}: {e}");
        assert!(e.hints()[0].contains(hint), "{text}: {:?}", e.hints());
        assert_eq!(e.causes(), [text]);
    }
    let e = explain_connect("nonsense:///", Some((NoConnect, Rpc)), GERMAN);
    assert!(e.message().contains("needs QEMU's"), "{e}");
}

#[test]
fn the_port_of_a_forwarding_rule_is_found() {
    let rule = |r: &str| format!("x: Could not set up host forwarding rule '{r}'\n");
    assert_eq!(taken_port(&rule("tcp:127.0.0.1:40022-:22")), Some(40022));
    assert_eq!(taken_port(&rule("tcp::6443-:6443")), Some(6443));
    assert_eq!(taken_port(&rule("garbage")), None);
    assert_eq!(taken_port("address in use"), None);
}
