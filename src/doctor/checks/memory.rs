//! Memory for one more node.

use crate::cluster::machine::room;
use crate::doctor::context::DoctorContext;
use crate::doctor::finding::{Finding, explain};
use crate::hypervisor::HostInfo;

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    s.judge_links(|_, link| judge(&link.info))
}

fn judge(host: &HostInfo) -> Finding {
    let remedy = "kubby suspend -p NAME frees a node's memory; free -h shows how much is left";
    match room::check_memory_left(None, host) {
        Ok(None) => Finding::ok(format!(
            "{} of {} left for nodes",
            host.available_memory, host.memory
        )),
        Ok(Some(warning)) => Finding::warning(warning, remedy),
        // Running clusters are not affected: only one more does not start.
        Err(e) => Finding::failure(explain(&e), remedy),
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
