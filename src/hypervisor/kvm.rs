//! The facts about a host that decide whether KVM can be used.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;

use super::host::HostInfo;
use super::reach::Account;

/// KVM's device node.
pub(crate) const DEVICE: &str = "/dev/kvm";

/// The state of `/dev/kvm` for the user that QEMU runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvmDevice {
    /// There is no such device.
    Missing,
    /// It is there, but this user, whose own libvirt starts QEMU, may not open it.
    Denied,
    /// It is there, but the user to which the system's libvirt switches for QEMU may not open it.
    /// libvirt is then also slow: it probes QEMU again at each call.
    DeniedToQemu,
    /// It is there and answers an open for reading and writing with another error.
    Broken,
    /// It opens, or it is on another host, where only libvirt knows.
    Usable,
}

/// The facts that the choice between KVM and software emulation depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccelFacts {
    /// The processor has `vmx` (Intel) or `svm` (AMD); taken for granted on another host.
    pub cpu_extensions: bool,
    /// The state of `/dev/kvm`.
    pub device: KvmDevice,
    /// libvirt lists `kvm` among its domain types.
    pub libvirt_kvm: bool,
}

impl AccelFacts {
    /// Gathers the facts about the host that libvirt runs on, which is this one if it is local.
    pub fn gather(host: &HostInfo) -> Self {
        let libvirt_kvm = host.has_kvm();
        if !host.is_local() {
            return AccelFacts {
                cpu_extensions: true,
                device: KvmDevice::Usable,
                libvirt_kvm,
            };
        }
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let qemu = host.qemu_ids.map(|ids| Account::of_this_host(ids.0, ids.1));
        AccelFacts {
            cpu_extensions: has_cpu_extensions(&cpuinfo),
            device: device_for(Path::new(DEVICE), qemu.as_ref()),
            libvirt_kvm,
        }
    }
}

/// Returns whether the text of `/proc/cpuinfo` lists the flag `vmx` or `svm`.
pub(crate) fn has_cpu_extensions(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(key, _)| key.trim() == "flags")
        .any(|(_, flags)| {
            flags
                .split_ascii_whitespace()
                .any(|flag| matches!(flag, "vmx" | "svm"))
        })
}

/// Returns the state of a KVM device node for QEMU, which runs as the account `qemu` or as this
/// process.
pub(crate) fn device_for(path: &Path, qemu: Option<&Account>) -> KvmDevice {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    match (opened.map_err(|e| e.kind()), qemu) {
        (Err(ErrorKind::NotFound), _) => KvmDevice::Missing,
        // This process's own permission says nothing when QEMU runs as another user.
        (Ok(_) | Err(ErrorKind::PermissionDenied), Some(qemu)) => {
            if qemu.may_open(path) {
                KvmDevice::Usable
            } else {
                KvmDevice::DeniedToQemu
            }
        }
        (Ok(_), None) => KvmDevice::Usable,
        (Err(ErrorKind::PermissionDenied), None) => KvmDevice::Denied,
        (Err(_), _) => KvmDevice::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn processor_flags_are_whole_words_of_the_flags_line() {
        assert!(has_cpu_extensions(
            "processor : 0\nflags\t\t: fpu svm sse\n"
        ));
        assert!(has_cpu_extensions("flags : vmx\n"));
        assert!(!has_cpu_extensions("flags : fpu svm_lock avx\n"));
        assert!(!has_cpu_extensions(
            "vmx flags\t: vnmi\nmodel name : svm vmx\nflags : fpu\n"
        ));
        assert!(!has_cpu_extensions(""));
    }

    #[test]
    fn a_device_is_judged_for_the_user_that_qemu_runs_as() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kvm");
        let stranger = Account::of_this_host(4_000_000, 4_000_000);
        assert_eq!(device_for(&path, None), KvmDevice::Missing);
        assert_eq!(device_for(&path, Some(&stranger)), KvmDevice::Missing);
        fs::write(&path, "").unwrap();
        let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        set(0o600);
        assert_eq!(device_for(&path, None), KvmDevice::Usable);
        assert_eq!(device_for(&path, Some(&stranger)), KvmDevice::DeniedToQemu);
        set(0o666);
        assert_eq!(device_for(&path, Some(&stranger)), KvmDevice::Usable);
        assert_eq!(device_for(&path.join("below"), None), KvmDevice::Broken);
    }

    #[test]
    fn of_another_host_only_libvirt_knows() {
        let host = |uri: &str, types: &[&str]| HostInfo {
            uri: uri.into(),
            libvirt_version: super::super::Version::new(9, 0, 0),
            qemu_version: super::super::Version::new(10, 0, 0),
            cpus: 1,
            memory: crate::units::Mebibytes(1),
            available_memory: crate::units::Mebibytes(1),
            domain_types: types.iter().map(|t| (*t).to_owned()).collect(),
            emulator: None,
            qemu_ids: None,
            security_models: Vec::new(),
        };
        let remote = AccelFacts::gather(&host("qemu+ssh://host/system", &["qemu", "kvm"]));
        let device = KvmDevice::Usable;
        assert_eq!(
            remote,
            AccelFacts {
                cpu_extensions: true,
                device,
                libvirt_kvm: true
            }
        );
        assert!(!AccelFacts::gather(&host("qemu+ssh://host/system", &["qemu"])).libvirt_kvm);
    }
}
