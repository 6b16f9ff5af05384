//! QEMU is new enough: that of 7.2 panics the node's kernel in emulation, and saved memory needs 9.

use crate::cluster::saved::support;
use crate::doctor::context::DoctorContext;
use crate::doctor::finding::Finding;
use crate::hypervisor::{AccelFacts, Acceleration, Version, accel};

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    s.judge_links(|_, link| {
        let acceleration = match accel::obstacle(&AccelFacts::gather(&link.info)) {
            None => Acceleration::Kvm,
            Some(_) => Acceleration::Tcg,
        };
        let unsaved = support::obstacle(&link.info);
        judge(acceleration, link.info.qemu_version, unsaved)
    })
}

fn judge(acceleration: Acceleration, version: Version, unsaved: Option<String>) -> Finding {
    match (accel::check_qemu(acceleration, version), unsaved) {
        (Err(e), _) => Finding::of_error(&e, "install a newer QEMU"),
        (_, Some(why)) => Finding::warning(
            format!(
                "QEMU {version} runs nodes, but every start is a cold one: machines cannot be \
                 saved here: {why}"
            ),
            "use QEMU 9 or newer with a libvirt of your own: --connect qemu:///session",
        ),
        (_, None) => Finding::ok(format!("QEMU {version}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    #[test]
    fn versions_are_judged_by_how_nodes_run() {
        let v = Version::new;
        let none = None::<&str>;
        let old = Some("QEMU 8.2.2 cannot, 9.0.0 and newer can");
        let table = [
            (
                Acceleration::Tcg,
                v(7, 2, 22),
                old,
                State::Failure,
                "crash the node's kernel",
            ),
            (
                Acceleration::Tcg,
                v(9, 2, 0),
                none,
                State::Failure,
                "10.0.0 or newer",
            ),
            (
                Acceleration::Tcg,
                v(10, 0, 2),
                none,
                State::Ok,
                "QEMU 10.0.2",
            ),
            (
                Acceleration::Kvm,
                v(7, 1, 0),
                old,
                State::Failure,
                "too old",
            ),
            (
                Acceleration::Kvm,
                v(8, 2, 2),
                old,
                State::Warning,
                "8.2.2 cannot",
            ),
            (Acceleration::Kvm, v(9, 0, 0), none, State::Ok, "QEMU 9.0.0"),
        ];
        for (acceleration, version, unsaved, state, words) in table {
            let found = judge(acceleration, version, unsaved.map(str::to_owned));
            assert_eq!(found.state, state, "{acceleration} {version}");
            assert!(found.reason.contains(words), "{}", found.reason);
            let remedy = found.remedy.unwrap_or_default();
            assert_eq!(remedy.contains("backports"), state == State::Failure);
        }
    }
}
