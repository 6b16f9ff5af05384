//! The sizes of machines, and whether the host has room for one more.

use crate::error::{Error, Result};
use crate::hypervisor::{Acceleration, HostInfo, State};
use crate::profile::MachineSpec;
use crate::units::Mebibytes;

use super::host::Host;

/// Kubernetes itself does not fit into less memory.
pub(crate) const LEAST_MEMORY: Mebibytes = Mebibytes(2048);
/// The node image with a few container images does not fit into less disk.
const LEAST_DISK: Mebibytes = Mebibytes(6 * 1024);
/// The default memory where the host has plenty.
const USUAL_MEMORY: Mebibytes = Mebibytes(4096);
/// The default size of a disk.
pub(crate) const USUAL_DISK: Mebibytes = Mebibytes(20 * 1024);
/// The part of its memory that a node uses after its first minutes.
const USUALLY_TOUCHED: Mebibytes = Mebibytes(2048);
/// With less than this left no node gets anywhere.
const TOO_LITTLE_LEFT: Mebibytes = Mebibytes(512);
/// More virtual CPUs than this do not make a start faster.
const USUAL_CPUS: u32 = 4;

/// Checks the sizes of a machine against what Kubernetes needs and what the host has. `of` begins the names
/// of sizes in errors: `--` where they are flags.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) for sizes that are too small, [`Kind::Preflight`](crate::error::Kind::Preflight) for more than the host has.
pub(crate) fn check_sizes(machine: &MachineSpec, of: &str, host: &HostInfo) -> Result<()> {
    let (memory, disk) = (Mebibytes(machine.memory_mib), Mebibytes(machine.disk_mib));
    let few = |flag: &str, has: Mebibytes, least: Mebibytes| {
        Err(
            Error::usage(format!("{flag}: {has} is too little for a Kubernetes node"))
                .with_hint(format!("give it at least {least}")),
        )
    };
    let many = |flag: &str, asked: String, has: String| {
        Err(Error::preflight(format!(
            "{flag}: {asked} asked for, but this host has {has}"
        ))
        .with_hint(format!("choose a smaller {flag}")))
    };
    if memory < LEAST_MEMORY {
        return few(&format!("{of}memory"), memory, LEAST_MEMORY);
    }
    if disk < LEAST_DISK {
        return few(&format!("{of}disk"), disk, LEAST_DISK);
    }
    if machine.cpus > host.cpus {
        return many(
            &format!("{of}cpus"),
            machine.cpus.to_string(),
            format!("{} CPUs", host.cpus),
        );
    }
    if memory > host.memory {
        return many(
            &format!("{of}memory"),
            memory.to_string(),
            host.memory.to_string(),
        );
    }
    Ok(())
}

/// Checks that the host has memory left for one more machine; returns a warning if it is little. A node
/// touches about 2 GiB of its memory; one that resumes from saved memory shares most of that with its file
/// and needs a quarter of it.
///
/// # Errors
/// [`Kind::Preflight`](crate::error::Kind::Preflight) when the host would have to swap or to kill processes.
pub(crate) fn check_memory_left(
    node: Option<Mebibytes>,
    host: &HostInfo,
) -> Result<Option<String>> {
    let available = host.available_memory;
    let node = node.unwrap_or_else(|| usual_memory(host.memory));
    // Another computer only reports its unused memory, without its caches.
    if available < TOO_LITTLE_LEFT && host.is_local() {
        return Err(Error::preflight(format!(
            "the host has {available} of memory left: too little for one more cluster"
        ))
        .with_hint(
            "kubby list shows the clusters; kubby suspend -p NAME frees a cluster's memory",
        ));
    }
    let tight = available >= TOO_LITTLE_LEFT && available < node.min(USUALLY_TOUCHED);
    Ok(tight.then(|| {
        format!("the host has {available} of memory left, and the node may come to use {node}")
    }))
}

/// Checks that the host has memory left for this many nodes beside the first one. A worker touches about half
/// of its least memory.
///
/// # Errors
/// [`Kind::Preflight`](crate::error::Kind::Preflight) when it has not.
pub(crate) fn check_nodes_fit(
    control_planes: usize,
    workers: usize,
    host: &HostInfo,
) -> Result<()> {
    let all = |nodes: usize, each: u64| each.saturating_mul(nodes.try_into().unwrap_or(u64::MAX));
    let of_control_planes = all(control_planes, USUALLY_TOUCHED.0);
    let needed = Mebibytes(of_control_planes.saturating_add(all(workers, LEAST_MEMORY.0 / 2)));
    let available = host.available_memory;
    if !host.is_local() || needed <= available {
        return Ok(());
    }
    let nodes = match control_planes {
        0 => format!("{workers} workers"),
        _ => format!("{} more nodes", control_planes + workers),
    };
    Err(Error::preflight(format!(
        "{nodes} need about {needed} of memory, and the host has {available} left"
    ))
    .with_hint("ask for fewer nodes; kubby suspend -p NAME frees a cluster's memory"))
}

/// Returns a warning where `more` emulated nodes would make more running nodes than the host has
/// processors. If the domains cannot be listed, there is no warning.
pub(crate) fn crowd(
    host: &Host<'_>,
    acceleration: Acceleration,
    processors: u32,
    more: usize,
) -> Option<String> {
    let mut all = host.libvirt().list_owned().unwrap_or_default();
    all.retain(|domain| domain.state == State::Running);
    let owners = all.iter().filter_map(|domain| domain.owner.as_ref());
    let own = owners.filter(|owner| owner.home == host.store().home());
    let mut own: Vec<String> = own.map(|owner| owner.profile.clone()).collect();
    own.sort_unstable();
    own.dedup();
    check_processors_left(acceleration, processors, all.len() + more, &own)
}

/// Returns the warning of [`crowd`] for `nodes` in all, of which those of the profiles `own` run and
/// can be paused by this home. An emulated node uses half a processor or more even when it is idle.
fn check_processors_left(
    acceleration: Acceleration,
    processors: u32,
    nodes: usize,
    own: &[String],
) -> Option<String> {
    if acceleration == Acceleration::Kvm || nodes <= processors as usize {
        return None;
    }
    let remedy = match own {
        [] => String::new(),
        own => format!("; kubby pause -p NAME pauses one: {}", own.join(", ")),
    };
    let unit = if processors == 1 { "CPU" } else { "CPUs" };
    Some(format!(
        "{nodes} emulated nodes will share {processors} {unit}, and each uses half a CPU even when idle: expect slow \
         starts{remedy}",
    ))
}

/// Returns the default number of virtual CPUs. With KVM a cluster is idle most of the time and half
/// the host is plenty; under emulation each virtual CPU is a thread that shortens the start.
pub(crate) fn usual_cpus(acceleration: Acceleration, host: u32) -> u32 {
    match acceleration {
        Acceleration::Kvm => (host / 2).clamp(2, USUAL_CPUS).min(host),
        Acceleration::Tcg => host.clamp(1, USUAL_CPUS),
    }
}

/// Returns the default number of virtual CPUs of a node beside a first one with `first` of them. An emulated one is
/// a thread that takes as much of the host as any other, and those of one machine wait for each other: with one of
/// them rather than two, two workers join in 30 instead of 42 seconds on a host with two processors, and take a fifth
/// less of them. Go's programs begin a second thread's work for each event where there are two processors: etcd switches a
/// third less often with one.
pub(crate) fn usual_further_cpus(acceleration: Acceleration, host: u32, first: u32) -> u32 {
    match acceleration {
        Acceleration::Kvm => first,
        Acceleration::Tcg => (host / 2).clamp(1, first),
    }
}

/// Returns the default memory of a node on a host.
pub(crate) fn usual_memory(host: Mebibytes) -> Mebibytes {
    Mebibytes(host.0 / 2).clamp(LEAST_MEMORY, USUAL_MEMORY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_sizes_fit_small_hosts() {
        assert_eq!(usual_cpus(Acceleration::Tcg, 1), 1);
        assert_eq!(usual_cpus(Acceleration::Tcg, 16), 4);
        assert_eq!(usual_cpus(Acceleration::Kvm, 2), 2);
        assert_eq!(usual_cpus(Acceleration::Kvm, 6), 3);
        assert_eq!(usual_cpus(Acceleration::Kvm, 64), 4);
        assert_eq!(usual_further_cpus(Acceleration::Kvm, 2, 2), 2);
        assert_eq!(usual_further_cpus(Acceleration::Tcg, 1, 1), 1);
        assert_eq!(usual_further_cpus(Acceleration::Tcg, 2, 2), 1);
        assert_eq!(usual_further_cpus(Acceleration::Tcg, 4, 4), 2);
        assert_eq!(usual_further_cpus(Acceleration::Tcg, 16, 4), 4);
        assert_eq!(usual_further_cpus(Acceleration::Tcg, 16, 1), 1);
        assert_eq!(usual_memory(Mebibytes(3000)), LEAST_MEMORY);
        assert_eq!(usual_memory(Mebibytes(6000)), Mebibytes(3000));
        assert_eq!(usual_memory(Mebibytes(64000)), USUAL_MEMORY);
    }

    #[test]
    fn more_emulated_nodes_than_processors_are_warned_of() {
        let (kvm, tcg) = (Acceleration::Kvm, Acceleration::Tcg);
        let own = ["a".to_owned(), "b".to_owned()];
        assert_eq!(check_processors_left(tcg, 2, 2, &own[..1]), None);
        assert_eq!(check_processors_left(tcg, 4, 3, &own), None);
        assert_eq!(check_processors_left(kvm, 2, 3, &own), None);
        let warning = check_processors_left(tcg, 2, 4, &own).unwrap();
        assert!(
            warning.starts_with("4 emulated nodes will share 2 CPUs"),
            "{warning}"
        );
        assert!(
            warning.ends_with("kubby pause -p NAME pauses one: a, b"),
            "{warning}"
        );
        let warning = check_processors_left(tcg, 1, 2, &[]).unwrap();
        assert!(warning.ends_with("expect slow starts"), "{warning}");
    }

    #[test]
    fn one_more_cluster_needs_memory() {
        let check = |uri: &str, available| {
            let host = HostInfo {
                uri: uri.into(),
                available_memory: Mebibytes(available),
                ..crate::hypervisor::host::example()
            };
            check_memory_left(Some(Mebibytes(4096)), &host)
        };
        let here = "qemu:///session";
        assert!(check(here, 511).is_err());
        assert!(check(here, 512).unwrap().is_some());
        assert!(check(here, 2047).unwrap().is_some());
        assert_eq!(check(here, 2048).unwrap(), None);
        assert_eq!(check("qemu+ssh://host/system", 511).unwrap(), None);
    }

    #[test]
    fn workers_need_memory_too() {
        let check = |workers, available| {
            let host = HostInfo {
                available_memory: Mebibytes(available),
                ..crate::hypervisor::host::example()
            };
            check_nodes_fit(0, workers, &host).is_ok()
        };
        assert!(check(0, 0));
        assert!(check(2, 2048));
        assert!(!check(2, 2047));
        assert!(!check(usize::MAX, 1 << 40));
    }
}
