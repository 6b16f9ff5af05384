//! Looking at the processes in the node: all there, and if not, why.

use std::time::Duration;

use time::OffsetDateTime;

use super::runtime;
use super::unit::Unit;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::remote::{Remote, quote};
use crate::role::Role;

/// The processes of a control plane node; the unit of each has its name.
const PROCESSES: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-scheduler",
    "kube-controller-manager",
    "kubelet",
    "kube-proxy",
    "containerd",
];

/// The number of [`PROCESSES`] in front that a worker does not have.
const CONTROL_PLANE: usize = 4;

/// Returns the processes of a node of this role.
pub(crate) fn processes(role: Role) -> &'static [&'static str] {
    match role {
        Role::ControlPlane => &PROCESSES,
        Role::Worker => &PROCESSES[CONTROL_PLANE..],
    }
}

/// The programs of a control plane with what makes and places pods; the one that waits for the whole API is first.
pub(crate) const CONTROLLERS: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];

/// Returns whether one of [`CONTROLLERS`] says that it is healthy.
///
/// # Errors
/// [`Kind::NodeUnreachable`](crate::error::Kind::NodeUnreachable) when SSH fails.
pub(crate) fn is_healthy(remote: &mut dyn Remote, program: &str) -> Result<bool> {
    let usual = if program == CONTROLLERS[0] {
        10257
    } else {
        10259
    };
    // The port is a setting, and may be none. Its certificate has its name only, and who else listens there is root.
    let ask = format!(
        "pid=$(pgrep -xo {}) || exit 1\n\
         port=$(tr '\\0' '\\n' </proc/$pid/cmdline | sed -n 's/^--secure-port=//p' | tail -n 1)\n\
         if [ \"$port\" = 0 ]; then printf ok; exit; fi\n\
         curl -skf --max-time 5 https://127.0.0.1:${{port:-{usual}}}/healthz",
        comm(program)
    );
    let output = remote.run(&ask)?;
    Ok(output.status == 0 && output.stdout == b"ok")
}

/// The number of restarts after which a unit counts as broken rather than as waiting.
const CRASH_LOOP: u32 = 4;

/// The number of further looks when a process is missing.
const LOOKS: u32 = 3;

/// Checks that each process of a node of this role runs.
///
/// # Errors
/// [`Kind::Unhealthy`](crate::error::Kind::Unhealthy) naming the first one that is missing, with the end of its journal.
pub(crate) fn verify(remote: &mut dyn Remote, role: Role) -> Result<()> {
    let mut missing = look(remote, role)?;
    for _ in 0..LOOKS {
        if missing.is_empty() {
            return Ok(());
        }
        // One that has just failed is started again within a second.
        interrupt::sleep(Duration::from_secs(1))?;
        missing = look(remote, role)?;
    }
    let Some(process) = missing.first() else {
        return Ok(());
    };
    let unit = format!("{process}.service");
    let journal = journal_tail(remote, &unit, 25)?;
    Err(
        Error::unhealthy(format!("not running in the node: {}", missing.join(", ")))
            .with_detail(format!("the end of the journal of {unit}"), journal)
            .with_hint(format!("kubby ssh -- systemctl status {unit}")),
    )
}

/// Looks once for all processes: under emulation each program that runs in the node takes its time.
fn look(remote: &mut dyn Remote, role: Role) -> Result<Vec<&'static str>> {
    // One that waits for its node's API counts: the controllers of another control plane work meanwhile.
    let waits = CONTROLLERS[0];
    let output = remote.run(&format!(
        "{}\ncat /proc/[0-9]*/comm 2>/dev/null\n\
         [ \"$(systemctl show -P SubState {waits})\" != start-pre ] || echo {}",
        runtime::end_of_seed(),
        comm(waits)
    ))?;
    Ok(missing(&String::from_utf8_lossy(&output.stdout), role))
}

/// Returns the processes of a node of this role that are not among the names of running programs,
/// one a line.
fn missing(running: &str, role: Role) -> Vec<&'static str> {
    let runs = |name: &str| running.lines().any(|line| line == comm(name));
    let all = processes(role).iter().copied();
    all.filter(|process| !runs(process)).collect()
}

/// Returns what the kernel keeps of a program's name: 15 characters.
fn comm(name: &str) -> &str {
    &name[..name.len().min(15)]
}

/// Returns the last lines of a unit's journal.
///
/// # Errors
/// [`Kind::NodeUnreachable`](crate::error::Kind::NodeUnreachable) when SSH fails.
pub(crate) fn journal_tail(remote: &mut dyn Remote, unit: &str, lines: u32) -> Result<String> {
    let output = remote.run(&format!(
        "journalctl --no-pager -o cat -n {lines} -u {}",
        quote(unit)
    ))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns the last that containerd has said about networks of pods.
///
/// # Errors
/// [`Kind::NodeUnreachable`](crate::error::Kind::NodeUnreachable) when SSH fails.
pub(crate) fn network_faults(remote: &mut dyn Remote) -> Result<String> {
    let output = remote.run(
        "journalctl --no-pager -o cat -b -u containerd.service | grep -i 'cni.*error' | tail -n 3",
    )?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns the time at which the node has booted, by its own clock and to the second.
///
/// # Errors
/// [`Kind::NodeUnreachable`](crate::error::Kind::NodeUnreachable) when SSH fails; [`Kind::Unhealthy`](crate::error::Kind::Unhealthy) when the node does not know.
pub(crate) fn booted_at(remote: &mut dyn Remote) -> Result<OffsetDateTime> {
    let output = remote.run("sed -n 's/^btime //p' /proc/stat")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let seconds = text.trim().parse().ok();
    seconds
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or_else(|| {
            Error::unhealthy("the node does not say when it has booted")
                .with_detail("/proc/stat", text)
        })
}

/// Returns a unit that fails again and again, with its journal: a longer wait for it is useless.
///
/// # Errors
/// [`Kind::NodeUnreachable`](crate::error::Kind::NodeUnreachable) when SSH fails.
pub(crate) fn crash_looping(
    remote: &mut dyn Remote,
    units: &[Unit],
) -> Result<Option<(String, String)>> {
    let names: Vec<&str> = units
        .iter()
        .filter(|u| u.section == "Service")
        .map(|u| u.name.as_str())
        .collect();
    let output = remote.run(&format!(
        "systemctl show --property=Id,ActiveState,NRestarts {}",
        names.join(" ")
    ))?;
    let Some(unit) = find_crash_loop(&String::from_utf8_lossy(&output.stdout)) else {
        return Ok(None);
    };
    let journal = journal_tail(remote, &unit, 25)?;
    Ok(Some((unit, journal)))
}

/// Reads `systemctl show`: blocks of `Key=value` lines separated by blank ones.
fn find_crash_loop(text: &str) -> Option<String> {
    text.split("\n\n").find_map(|block| {
        let value = |key: &str| {
            block
                .lines()
                .find_map(|l| l.strip_prefix(key)?.strip_prefix('='))
        };
        let restarts: u32 = value("NRestarts")?.parse().ok()?;
        let active = value("ActiveState")? == "active";
        (restarts >= CRASH_LOOP && !active).then(|| value("Id").map(str::to_owned))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_process_is_named_by_its_whole_name() {
        let all = "systemd\netcd\nkube-apiserver\nkube-scheduler\nkube-controller\nkubelet\nkube-proxy\ncontainerd\n";
        let missing = |running: &str| missing(running, Role::ControlPlane);
        assert!(missing(all).is_empty());
        assert_eq!(
            missing(&all.replace("kube-controller\n", "")),
            ["kube-controller-manager"]
        );
        // A shim is not containerd itself.
        assert_eq!(
            missing(&all.replace("containerd", "containerd-shim")),
            ["containerd"]
        );
        assert_eq!(missing("").len(), PROCESSES.len());
        assert!(super::missing("kubelet\nkube-proxy\ncontainerd\n", Role::Worker).is_empty());
    }

    #[test]
    fn a_crash_loop_is_found() {
        let calm = "Id=etcd.service\nActiveState=active\nNRestarts=9\n\nId=kubelet.service\nActiveState=activating\nNRestarts=3\n";
        assert_eq!(find_crash_loop(calm), None);
        let loops = "NRestarts=0\nId=etcd.service\nActiveState=active\n\nNRestarts=4\nId=kubelet.service\nActiveState=activating\n";
        assert_eq!(find_crash_loop(loops).as_deref(), Some("kubelet.service"));
        assert_eq!(find_crash_loop(""), None);
    }
}
