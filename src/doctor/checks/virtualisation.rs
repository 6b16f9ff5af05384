//! Hardware virtualisation, and why it cannot be used.

use std::path::Path;

use crate::doctor::context::DoctorContext;
use crate::doctor::finding::Finding;
use crate::hypervisor::{self, AccelFacts, Acceleration, accel, kvm};
use crate::profile::ProfileName;

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    let judged = s.connections.iter().filter_map(|connection| {
        let facts = match &connection.link {
            Ok(link) => AccelFacts::gather(&link.info),
            Err(_) if hypervisor::is_local(&connection.uri) => without_libvirt(),
            Err(_) => return None,
        };
        let with_kvm = s
            .settled()
            .filter(|(_, p)| {
                p.connect == connection.uri && p.first().machine.acceleration == Acceleration::Kvm
            })
            .map(|(seen, _)| &seen.name);
        Some(judge(&facts, &with_kvm.collect::<Vec<_>>()))
    });
    judged.collect()
}

/// Returns the facts about processor and device, and assumes that libvirt supports KVM.
fn without_libvirt() -> AccelFacts {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    AccelFacts {
        cpu_extensions: kvm::has_cpu_extensions(&cpuinfo),
        device: kvm::device_for(Path::new(kvm::DEVICE), None),
        libvirt_kvm: true,
    }
}

/// Judges the facts; the clusters `with_kvm` have run with KVM so far.
fn judge(facts: &AccelFacts, with_kvm: &[&ProfileName]) -> Finding {
    let Some((why, remedy)) = accel::obstacle(facts) else {
        return Finding::ok("nodes run on KVM, by the processor itself");
    };
    if with_kvm.is_empty() {
        let slow = "nodes run in software emulation, several times slower, because";
        return Finding::warning(format!("{slow} {why}"), remedy);
    }
    let names: Vec<String> = with_kvm.iter().map(|name| format!("`{name}`")).collect();
    let names = names.join(", ");
    Finding::warning(
        format!("KVM cannot be used, and {names} used it so far: {why}; the next start emulates"),
        remedy,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;
    use crate::hypervisor::KvmDevice;

    #[test]
    fn each_obstacle_is_named_with_its_remedy() {
        let dev: ProfileName = "dev".parse().unwrap();
        use KvmDevice::{Broken, Denied, DeniedToQemu, Missing, Usable};
        let table = [
            (true, Usable, true, State::Ok, "KVM", ""),
            (
                false,
                Usable,
                true,
                State::Warning,
                "vmx or svm",
                "firmware",
            ),
            (
                true,
                Missing,
                true,
                State::Warning,
                "does not exist",
                "modprobe",
            ),
            (
                true,
                Denied,
                true,
                State::Warning,
                "this user",
                "usermod -aG kvm",
            ),
            (
                true,
                DeniedToQemu,
                true,
                State::Warning,
                "QEMU runs as",
                "chown root:kvm",
            ),
            (true, Broken, true, State::Warning, "does not open", "dmesg"),
            (
                true,
                Usable,
                false,
                State::Warning,
                "domain type kvm",
                "virt-host-validate",
            ),
        ];
        for (cpu_extensions, device, libvirt_kvm, state, why, remedy) in table {
            let facts = AccelFacts {
                cpu_extensions,
                device,
                libvirt_kvm,
            };
            for made in [&[][..], &[&dev]] {
                let found = judge(&facts, made);
                assert_eq!(found.state, state, "{facts:?}");
                assert!(found.reason.contains(why), "{}", found.reason);
                assert!(found.remedy.clone().unwrap_or_default().contains(remedy));
                let named = found.reason.contains("`dev`");
                assert_eq!(named, state != State::Ok && !made.is_empty());
            }
        }
    }
}
