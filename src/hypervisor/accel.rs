//! Hardware virtualisation or software emulation: which one this host can really do.
//!
//! `/dev/kvm` alone proves nothing: on some nested hosts it opens and answers while the processor
//! has no virtualisation extensions, and a stock guest then hangs. So the processor's flags and
//! libvirt's word are asked as well, and [`decide`] is a pure function of the three answers.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::host::Version;
use super::kvm::{AccelFacts, KvmDevice};
use crate::error::{Error, Result};

/// The choice of `--accel`; its comments are the help's texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum AccelChoice {
    /// KVM if the host supports it, else software emulation
    #[default]
    Auto,
    /// KVM (hardware virtualisation); fail if the host has none
    Kvm,
    /// Software emulation, even if the host supports KVM
    Tcg,
}

/// The way in which a virtual machine's processor works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Acceleration {
    /// By the host's processor, through `/dev/kvm`.
    Kvm,
    /// By QEMU's emulation in software, several times slower.
    Tcg,
}

impl Acceleration {
    /// Returns the factor by which deadlines are longer than with KVM.
    pub fn deadline_factor(self) -> u32 {
        match self {
            Acceleration::Kvm => 1,
            Acceleration::Tcg => 6,
        }
    }

    /// Returns the name, as `--accel` takes it and profiles record it.
    pub fn name(self) -> &'static str {
        match self {
            Acceleration::Kvm => "kvm",
            Acceleration::Tcg => "tcg",
        }
    }
}

impl fmt::Display for Acceleration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Decides between KVM and software emulation; returns the reason as well, in a few words for the user.
///
/// # Errors
/// [`Kind::Preflight`](crate::error::Kind::Preflight) when KVM is asked for and cannot be used; with the reason and the remedy.
pub fn decide(choice: AccelChoice, facts: &AccelFacts) -> Result<(Acceleration, String)> {
    Ok(match (choice, obstacle(facts)) {
        (AccelChoice::Tcg, _) => (
            Acceleration::Tcg,
            "software emulation was asked for".to_owned(),
        ),
        (_, None) => (
            Acceleration::Kvm,
            "hardware virtualisation is available".to_owned(),
        ),
        (AccelChoice::Auto, Some((reason, _))) => (
            Acceleration::Tcg,
            format!("software emulation, because {reason}"),
        ),
        (AccelChoice::Kvm, Some((reason, remedy))) => {
            return Err(Error::preflight(format!("KVM cannot be used: {reason}"))
                .with_hint(remedy)
                .with_hint("use --accel auto to fall back to software emulation"));
        }
    })
}

/// Returns the reason why KVM cannot be used, and the remedy; `None` where it can.
pub(crate) fn obstacle(facts: &AccelFacts) -> Option<(&'static str, &'static str)> {
    Some(match facts.device {
        _ if !facts.cpu_extensions => (
            "the processor offers no virtualisation extensions (no vmx or svm in /proc/cpuinfo)",
            "enable virtualisation in the firmware, or nested virtualisation if this is a virtual machine",
        ),
        KvmDevice::Missing => (
            "/dev/kvm does not exist",
            "load the module: sudo modprobe kvm_intel (or kvm_amd)",
        ),
        KvmDevice::Denied => (
            "this user may not open /dev/kvm",
            "join its group, then log in again: sudo usermod -aG kvm \"$USER\"",
        ),
        KvmDevice::DeniedToQemu => (
            "the user that QEMU runs as may not open /dev/kvm",
            "give it to its group: sudo chown root:kvm /dev/kvm && sudo chmod 0660 /dev/kvm",
        ),
        KvmDevice::Broken => (
            "/dev/kvm does not open",
            "look at the kernel's log for the cause: sudo dmesg | grep -i kvm",
        ),
        KvmDevice::Usable if !facts.libvirt_kvm => (
            "libvirt does not offer the domain type kvm",
            "see what libvirt misses: virt-host-validate qemu",
        ),
        KvmDevice::Usable => return None,
    })
}

/// Checks that QEMU can run the node with this acceleration.
///
/// Software emulation needs QEMU 10: that of 7.2 corrupts the memory of Debian 13's kernel, which
/// then panics within seconds, and nothing between the two is proven to work.
///
/// # Errors
/// [`Kind::Preflight`](crate::error::Kind::Preflight) when the version is too old; says how to get a newer one.
pub(crate) fn check_qemu(acceleration: Acceleration, version: Version) -> Result<()> {
    let (needed, why) = match acceleration {
        Acceleration::Kvm => (Version::new(7, 2, 0), "with KVM"),
        Acceleration::Tcg => (
            Version::new(10, 0, 0),
            "for software emulation: older ones crash the node's kernel",
        ),
    };
    if version >= needed {
        return Ok(());
    }
    Err(Error::preflight(format!(
        "QEMU {version} is too old, {needed} or newer is needed {why}"
    ))
    .with_hint(
        "on Debian 12: sudo apt-get install -t bookworm-backports qemu-system-x86 qemu-utils",
    ))
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;
    use crate::error::Kind;

    const GOOD: AccelFacts = AccelFacts {
        cpu_extensions: true,
        device: KvmDevice::Usable,
        libvirt_kvm: true,
    };

    fn facts(cpu_extensions: bool, device: KvmDevice, libvirt_kvm: bool) -> AccelFacts {
        AccelFacts {
            cpu_extensions,
            device,
            libvirt_kvm,
        }
    }

    #[test]
    fn kvm_needs_processor_device_and_libvirt() {
        use Acceleration::{Kvm, Tcg};
        let table = [
            (AccelChoice::Auto, GOOD, Kvm, "is available"),
            (AccelChoice::Kvm, GOOD, Kvm, "is available"),
            (AccelChoice::Tcg, GOOD, Tcg, "asked for"),
            // The device answers although the processor cannot: the guest would hang.
            (
                AccelChoice::Auto,
                facts(false, KvmDevice::Usable, true),
                Tcg,
                "no virtualisation ext",
            ),
            (
                AccelChoice::Auto,
                facts(true, KvmDevice::Missing, true),
                Tcg,
                "does not exist",
            ),
            (
                AccelChoice::Auto,
                facts(true, KvmDevice::Denied, true),
                Tcg,
                "may not open",
            ),
            (
                AccelChoice::Auto,
                facts(true, KvmDevice::Broken, true),
                Tcg,
                "does not open",
            ),
            (
                AccelChoice::Auto,
                facts(true, KvmDevice::Usable, false),
                Tcg,
                "domain type kvm",
            ),
        ];
        for (choice, facts, acceleration, reason) in table {
            let (decided, why) = decide(choice, &facts).unwrap();
            assert_eq!(decided, acceleration, "{choice:?} {facts:?}");
            assert!(why.contains(reason), "{choice:?} {facts:?}: {why}");
        }
    }

    #[test]
    fn kvm_asked_but_unusable_is_an_error_with_a_remedy() {
        let table = [
            (facts(false, KvmDevice::Usable, true), "firmware"),
            (facts(true, KvmDevice::Missing, true), "modprobe"),
            (facts(true, KvmDevice::Denied, true), "usermod"),
            (facts(true, KvmDevice::DeniedToQemu, true), "chown root:kvm"),
            (facts(true, KvmDevice::Broken, true), "dmesg"),
            (facts(true, KvmDevice::Usable, false), "virt-host-validate"),
        ];
        for (facts, remedy) in table {
            let e = decide(AccelChoice::Kvm, &facts).unwrap_err();
            assert_eq!(e.kind(), Kind::Preflight);
            assert!(e.hints()[0].contains(remedy), "{facts:?}: {:?}", e.hints());
            assert!(e.hints()[1].contains("--accel auto"));
        }
    }

    #[test]
    fn emulation_needs_qemu_10_and_kvm_7_2() {
        let table = [
            (Acceleration::Kvm, (7, 1, 9), false),
            (Acceleration::Kvm, (7, 2, 0), true),
            (Acceleration::Tcg, (7, 2, 22), false),
            (Acceleration::Tcg, (9, 2, 4), false),
            (Acceleration::Tcg, (10, 0, 0), true),
            (Acceleration::Tcg, (11, 1, 0), true),
        ];
        for (acceleration, (major, minor, micro), good) in table {
            let result = check_qemu(acceleration, Version::new(major, minor, micro));
            assert_eq!(result.is_ok(), good, "{acceleration} {major}.{minor}");
            if let Err(e) = result {
                assert!(e.hints()[0].contains("bookworm-backports"));
            }
        }
    }

    #[test]
    fn names_parse_back() {
        for a in [Acceleration::Kvm, Acceleration::Tcg] {
            let json = format!("\"{}\"", a.name());
            assert_eq!(serde_json::to_string(&a).unwrap(), json);
            assert_eq!(serde_json::from_str::<Acceleration>(&json).unwrap(), a);
        }
        for (name, choice) in [
            ("auto", AccelChoice::Auto),
            ("kvm", AccelChoice::Kvm),
            ("tcg", AccelChoice::Tcg),
        ] {
            assert_eq!(AccelChoice::from_str(name, false), Ok(choice));
        }
        let error = AccelChoice::from_str("fast", false).unwrap_err();
        assert!(error.contains("fast"), "{error}");
    }
}
