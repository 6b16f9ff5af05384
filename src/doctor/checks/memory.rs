//! Memory for one more node.

use crate::cluster::machine::preflight;
use crate::doctor::finding::{Finding, explain};
use crate::doctor::surroundings::Surroundings;
use crate::hypervisor::HostInfo;

const NAME: &str = "memory";

pub(in crate::doctor) fn look(s: &Surroundings<'_>) -> Vec<Finding> {
    let mut found: Vec<Finding> = s.links().map(|(_, link)| judge(&link.host)).collect();
    if found.is_empty() {
        found.push(Finding::skipped(NAME, "libvirt does not answer"));
    }
    found
}

fn judge(host: &HostInfo) -> Finding {
    let remedy = "kubby suspend -p NAME gives a node's memory back; free -h shows who has it";
    match preflight::check_memory_left(None, host) {
        Ok(None) => Finding::ok(
            NAME,
            format!(
                "{} of {} left for nodes",
                host.available_memory, host.memory
            ),
        ),
        Ok(Some(warning)) => Finding::warning(NAME, warning, remedy),
        // Clusters that run are well: only one more does not start.
        Err(e) => Finding::failure(NAME, explain(&e), remedy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;
    use crate::hypervisor::Version;
    use crate::units::Mebibytes;

    #[test]
    fn memory_is_judged_as_start_does() {
        for (available, state) in [
            (400, State::Failure),
            (1000, State::Warning),
            (6000, State::Ok),
        ] {
            let found = judge(&HostInfo {
                uri: "qemu:///session".into(),
                libvirt_version: Version::new(9, 0, 0),
                qemu_version: Version::new(10, 0, 0),
                cpus: 2,
                memory: Mebibytes(8192),
                available_memory: Mebibytes(available),
                domain_types: vec![],
                emulator: None,
                qemu_ids: None,
                security_models: vec![],
            });
            assert_eq!(found.state, state, "{available}: {}", found.reason);
        }
    }
}
