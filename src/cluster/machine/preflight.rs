//! What is wanted, and whether this host can give it: everything that can be told before
//! anything is made or changed.

use std::path::{Path, PathBuf};

use crate::assets::version;
use crate::cluster::StartOptions;
use crate::cluster::machine::resources::Names;
use crate::egress;
use crate::error::{Error, Kind, Result};
use crate::hypervisor::{
    AccelChoice, AccelFacts, Acceleration, Domain, HostInfo, Hypervisor, accel, ports,
};
use crate::kubeconfig;
use crate::profile::{Assets, FILE_VERSION, Ports, Profile, ProfileName};
use crate::store::Store;
use crate::units::Mebibytes;

/// Less memory than this and Kubernetes itself does not fit.
const LEAST_MEMORY: Mebibytes = Mebibytes(2048);
/// Less disk than this and the node image with a few container images does not fit.
const LEAST_DISK: Mebibytes = Mebibytes(6 * 1024);
/// What a new cluster gets where the host has plenty.
const USUAL_MEMORY: Mebibytes = Mebibytes(4096);
const USUAL_DISK: Mebibytes = Mebibytes(20 * 1024);
/// What a node comes to use of its memory in its first minutes.
const USUALLY_TOUCHED: Mebibytes = Mebibytes(2048);
/// With less than this left no node gets anywhere.
const TOO_LITTLE_LEFT: Mebibytes = Mebibytes(512);
/// More virtual CPUs than this do not make a start faster.
const USUAL_CPUS: u32 = 4;

/// Checks the domain's name in libvirt: free, or ours.
///
/// # Errors
/// [`Kind::State`] for a domain that kubby did not make, or made for another home or profile.
pub fn check_domain(
    hypervisor: &dyn Hypervisor,
    names: &Names,
    store: &Store,
    name: &ProfileName,
    existing: Option<&Profile>,
) -> Result<()> {
    let Some(domain) = hypervisor.find(&names.domain)? else {
        return Ok(());
    };
    let recorded = existing.map(Profile::uuid).transpose()?;
    match foreign(&domain, store, name) {
        None if recorded == Some(domain.uuid) => Ok(()),
        None => Err(Error::new(
            Kind::State,
            format!(
                "libvirt has a domain `{}` of this profile, whose files are gone",
                names.domain
            ),
        )
        .with_hint(format!("kubby delete{} removes it", name.flag()))),
        Some(why) => Err(Error::new(
            Kind::State,
            format!(
                "libvirt has a domain `{}` already, and it is not this profile's: {why}",
                names.domain
            ),
        )
        .with_hint(
            "choose another name with --profile, or rename that domain with `virsh domrename`",
        )),
    }
}

/// Why a domain is not this profile's; `None` when its mark says that it is.
pub fn foreign(domain: &Domain, store: &Store, name: &ProfileName) -> Option<String> {
    let Some(owner) = &domain.owner else {
        return Some("it was not made by kubby".into());
    };
    if !owner.home.components().eq(store.home().components()) {
        return Some(format!(
            "it belongs to the kubby home {}",
            owner.home.display()
        ));
    }
    if owner.profile != name.as_str() {
        return Some(format!("it belongs to the profile `{}`", owner.profile));
    }
    None
}

/// Whose this profile's entries in a kubeconfig are.
pub fn kubeconfig_owner(store: &Store, name: &ProfileName) -> kubeconfig::Owner {
    kubeconfig::Owner {
        profile: name.to_string(),
        home: store.home().to_owned(),
    }
}

/// Checks the user's kubeconfig: it parses, and the context's name is free or ours.
///
/// # Errors
/// [`Kind::Kubeconfig`] otherwise.
pub fn check_kubeconfig(store: &Store, name: &ProfileName, path: &Path) -> Result<()> {
    let text = kubeconfig::load(path)?;
    let owner = kubeconfig_owner(store, name);
    kubeconfig::check_foreign(text.as_deref(), &name.resource_name(), &owner)
}

/// How the node will run, and why.
///
/// # Errors
/// [`Kind::Preflight`] when what was asked for cannot be, or QEMU is too old for it.
pub fn acceleration(
    asked: Option<AccelChoice>,
    existing: Option<&Profile>,
    host: &HostInfo,
) -> Result<(Acceleration, String)> {
    let choice = match (asked, existing.and_then(|p| p.acceleration.parse().ok())) {
        (Some(choice), _) => choice,
        // A cluster goes on as it was made unless told otherwise.
        (None, Some(Acceleration::Tcg)) => AccelChoice::Tcg,
        _ => AccelChoice::Auto,
    };
    let decided = accel::decide(choice, &AccelFacts::gather(host))?;
    accel::check_qemu(decided.acceleration, host.qemu_version)?;
    let reason = match (asked, existing) {
        (None, Some(_)) => "as the cluster was made".to_owned(),
        _ => decided.reason,
    };
    Ok((decided.acceleration, reason))
}

/// Makes the profile of a new cluster.
///
/// # Errors
/// [`Kind::Preflight`] when the host has not enough, [`Kind::Usage`] for sizes that make no sense.
pub fn new_profile(
    name: &ProfileName,
    options: &StartOptions,
    connect: &str,
    acceleration: Acceleration,
    host: &HostInfo,
    kubeconfig: PathBuf,
    ports: Ports,
) -> Result<Profile> {
    let cpus = options
        .cpus
        .unwrap_or_else(|| usual_cpus(acceleration, host.cpus));
    let memory = options.memory.unwrap_or_else(|| usual_memory(host.memory));
    let disk = options.disk.unwrap_or(USUAL_DISK);
    check_sizes(cpus, memory, disk, host)?;
    Ok(Profile {
        version: FILE_VERSION,
        kubby: env!("CARGO_PKG_VERSION").to_owned(),
        name: name.clone(),
        uuid: uuid::Uuid::new_v4().to_string(),
        connect: connect.to_owned(),
        acceleration: acceleration.to_string(),
        kubernetes_version: options
            .kubernetes_version
            .unwrap_or(version::DEFAULT)
            .to_string(),
        cpus,
        memory_mib: memory.0,
        disk_mib: disk.0,
        disk: crate::cluster::machine::resources::disk_name(name),
        kernel_args: options.kernel_args.clone(),
        addons: crate::addon::default_names(),
        kubeconfig,
        assets: Assets::default(),
        egress: given_egress(options),
        ports,
        forwards: Vec::new(),
    })
}

/// Applies the flags to the profile of a cluster that is there. Returns whether the virtual
/// machine has to be defined anew.
///
/// # Errors
/// [`Kind::Usage`] for what cannot be changed any more, [`Kind::State`] for what cannot be changed
/// while it runs.
pub fn change_profile(
    profile: &mut Profile,
    options: &StartOptions,
    acceleration: Acceleration,
    host: &HostInfo,
    running: bool,
) -> Result<()> {
    fixed(
        "--kubernetes-version",
        options.kubernetes_version.map(|v| v.to_string()),
        &profile.kubernetes_version,
        profile,
    )?;
    fixed(
        "--disk",
        options.disk.map(|d| d.to_string()),
        &Mebibytes(profile.disk_mib).to_string(),
        profile,
    )?;
    fixed(
        "--connect",
        options.connect.clone(),
        &profile.connect,
        profile,
    )?;
    let mut wanted = profile.clone();
    wanted.cpus = options.cpus.unwrap_or(profile.cpus);
    wanted.memory_mib = options.memory.map_or(profile.memory_mib, |m| m.0);
    wanted.ports.api = options.api_port.unwrap_or(profile.ports.api);
    wanted.ports.ssh = options.ssh_port.unwrap_or(profile.ports.ssh);
    if options.accel.is_some() {
        wanted.acceleration = acceleration.to_string();
    }
    if !options.kernel_args.is_empty() {
        wanted.kernel_args.clone_from(&options.kernel_args);
    }
    // Not the machine's: it can be changed while that runs.
    profile.egress.update(&options.egress);
    wanted.egress.clone_from(&profile.egress);
    if wanted == *profile {
        return Ok(());
    }
    if running {
        return Err(Error::new(
            Kind::State,
            format!(
                "the cluster `{}` runs: its machine cannot be changed now",
                profile.name
            ),
        )
        .with_hint(format!(
            "kubby stop{0}, then kubby start{0} with the same flags",
            profile.name.flag()
        )));
    }
    check_sizes(
        wanted.cpus,
        Mebibytes(wanted.memory_mib),
        Mebibytes(wanted.disk_mib),
        host,
    )?;
    for (port, old, flag) in [
        (wanted.ports.api, profile.ports.api, "--api-port"),
        (wanted.ports.ssh, profile.ports.ssh, "--ssh-port"),
    ] {
        if port != old {
            ports::check_free(port, flag)?;
        }
    }
    *profile = wanted;
    Ok(())
}

fn given_egress(options: &StartOptions) -> egress::Settings {
    let mut settings = egress::Settings::default();
    settings.update(&options.egress);
    settings
}

fn fixed(flag: &str, asked: Option<String>, has: &str, profile: &Profile) -> Result<()> {
    match asked {
        Some(asked) if asked != has => Err(Error::new(
            Kind::Usage,
            format!(
                "{flag}: the cluster `{}` has {has}, which cannot be changed to {asked}",
                profile.name
            ),
        )
        .with_hint(format!(
            "kubby delete{0} and kubby start{0} {flag} …, or another --profile",
            profile.name.flag()
        ))),
        _ => Ok(()),
    }
}

/// Chooses the ports of a new cluster. The caller holds the shared lock until the profile that
/// records them is saved.
///
/// # Errors
/// [`Kind::Preflight`] for a port that is taken.
pub fn choose_ports(store: &Store, name: &ProfileName, options: &StartOptions) -> Result<Ports> {
    let mut taken = ports_of_others(store, name)?;
    let mut choose = |asked: Option<u16>, flag: &str| -> Result<u16> {
        let Some(port) = asked else {
            let port = free_port(taken.iter().map(|(port, _)| *port))?;
            taken.push((port, name.clone()));
            return Ok(port);
        };
        if let Some((_, owner)) = taken.iter().find(|(p, _)| *p == port) {
            return Err(Error::new(
                Kind::Preflight,
                format!("{flag}: port {port} belongs to the cluster `{owner}`"),
            )
            .with_hint("choose another port, or leave the flag out for a free one"));
        }
        ports::check_free(port, flag)?;
        taken.push((port, name.clone()));
        Ok(port)
    };
    Ok(Ports {
        api: choose(options.api_port, "--api-port")?,
        ssh: choose(options.ssh_port, "--ssh-port")?,
    })
}

/// The ports that other profiles have recorded, and may use again when they start.
///
/// # Errors
/// [`Kind::Internal`] when the profiles cannot be listed.
pub fn ports_of_others(store: &Store, name: &ProfileName) -> Result<Vec<(u16, ProfileName)>> {
    let mut taken = Vec::new();
    for other in store.profile_names()? {
        // A damaged profile's ports are not known; if they are in use, binding shows it.
        if let (true, Ok(Some(profile))) =
            (other != *name, Profile::load(&store.profile_dir(&other)))
        {
            let ports = profile.host_ports().into_iter();
            taken.extend(ports.map(|port| (port, other.clone())));
        }
    }
    Ok(taken)
}

/// A free port that is none of `avoid`.
///
/// # Errors
/// [`Kind::Preflight`] when there is none.
pub fn free_port(avoid: impl IntoIterator<Item = u16>) -> Result<u16> {
    let found = ports::find_free(1, &avoid.into_iter().collect())?;
    found
        .first()
        .copied()
        .ok_or_else(|| Error::new(Kind::Preflight, "there is no free port"))
}

fn check_sizes(cpus: u32, memory: Mebibytes, disk: Mebibytes, host: &HostInfo) -> Result<()> {
    let few = |flag: &str, has: String, least: String| {
        Err(Error::new(
            Kind::Usage,
            format!("{flag}: {has} is too little for a Kubernetes node"),
        )
        .with_hint(format!("give it at least {least}")))
    };
    let many = |flag: &str, asked: String, has: String| {
        Err(Error::new(
            Kind::Preflight,
            format!("{flag}: {asked} asked for, but this host has {has}"),
        )
        .with_hint(format!("choose a smaller {flag}")))
    };
    if memory < LEAST_MEMORY {
        return few("--memory", memory.to_string(), LEAST_MEMORY.to_string());
    }
    if disk < LEAST_DISK {
        return few("--disk", disk.to_string(), LEAST_DISK.to_string());
    }
    if cpus > host.cpus {
        return many("--cpus", cpus.to_string(), format!("{} CPUs", host.cpus));
    }
    if memory > host.memory {
        return many("--memory", memory.to_string(), host.memory.to_string());
    }
    Ok(())
}

/// Whether the host has memory for one more machine to run.
#[derive(Debug, PartialEq, Eq)]
enum Room {
    Plenty,
    Tight,
    None,
}

/// A node touches about 2 GiB of its memory; one that wakes from saved memory shares most of that
/// with its file and needs a quarter of it.
fn room(available: Mebibytes, node: Mebibytes) -> Room {
    if available < TOO_LITTLE_LEFT {
        Room::None
    } else if available < node.min(USUALLY_TOUCHED) {
        Room::Tight
    } else {
        Room::Plenty
    }
}

/// Checks that the host has memory left for one more machine, with `node` of its own. Returns what
/// to warn of.
///
/// # Errors
/// [`Kind::Preflight`] when the host would have to swap or to kill.
pub fn check_memory_left(node: Option<Mebibytes>, host: &HostInfo) -> Result<Option<String>> {
    let available = host.available_memory;
    let node = node.unwrap_or_else(|| usual_memory(host.memory));
    match room(available, node) {
        Room::Plenty => Ok(None),
        Room::Tight => Ok(Some(format!(
            "the host has {available} of memory left, and the node may come to use {node}"
        ))),
        // Of another host it is known only what is unused, caches not counted in.
        Room::None if !host.is_local() => Ok(None),
        Room::None => Err(Error::new(
            Kind::Preflight,
            format!("the host has {available} of memory left: too little for one more cluster"),
        )
        .with_hint(
            "kubby list shows the clusters; kubby suspend -p NAME gives a node's memory back",
        )),
    }
}

/// What to warn of where more nodes than processors will be at work with one more that is emulated:
/// such a node takes half of one or more even when nothing happens in it. `at_work` nodes run already,
/// among them those of the profiles `own`, which can be paused from here.
pub fn check_processors_left(
    acceleration: Acceleration,
    processors: u32,
    at_work: usize,
    own: &[String],
) -> Option<String> {
    if acceleration == Acceleration::Kvm || at_work < processors as usize {
        return None;
    }
    let remedy = match own {
        [] => String::new(),
        own => format!("; kubby pause -p NAME lets one rest: {}", own.join(", ")),
    };
    Some(format!(
        "with this one {} nodes are at work on {processors} {}; an emulated one takes half of one or more \
         even at rest, so all of them will be slow{remedy}",
        at_work + 1,
        if processors == 1 {
            "processor"
        } else {
            "processors"
        },
    ))
}

/// With KVM a cluster is idle most of the time and half the host is plenty; under emulation each
/// virtual CPU is a thread that shortens the start.
fn usual_cpus(acceleration: Acceleration, host: u32) -> u32 {
    match acceleration {
        Acceleration::Kvm => (host / 2).clamp(2, USUAL_CPUS).min(host),
        Acceleration::Tcg => host.clamp(1, USUAL_CPUS),
    }
}

fn usual_memory(host: Mebibytes) -> Mebibytes {
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
        assert_eq!(usual_memory(Mebibytes(3000)), LEAST_MEMORY);
        assert_eq!(usual_memory(Mebibytes(6000)), Mebibytes(3000));
        assert_eq!(usual_memory(Mebibytes(64000)), USUAL_MEMORY);
    }

    #[test]
    fn more_emulated_nodes_than_processors_are_warned_of() {
        let (kvm, tcg) = (Acceleration::Kvm, Acceleration::Tcg);
        let own = ["a".to_owned(), "b".to_owned()];
        assert_eq!(check_processors_left(tcg, 2, 1, &own[..1]), None);
        assert_eq!(check_processors_left(tcg, 4, 2, &own), None);
        assert_eq!(check_processors_left(kvm, 2, 2, &own), None);
        let warning = check_processors_left(tcg, 2, 3, &own).unwrap();
        assert!(warning.starts_with("with this one 4 nodes are at work on 2 processors"));
        assert!(
            warning.ends_with("kubby pause -p NAME lets one rest: a, b"),
            "{warning}"
        );
        let warning = check_processors_left(tcg, 1, 1, &[]).unwrap();
        assert!(warning.ends_with("will be slow"), "{warning}");
    }

    #[test]
    fn one_more_cluster_needs_memory() {
        let node = Mebibytes(4096);
        assert_eq!(room(Mebibytes(511), node), Room::None);
        assert_eq!(room(Mebibytes(512), node), Room::Tight);
        assert_eq!(room(Mebibytes(2047), node), Room::Tight);
        assert_eq!(room(Mebibytes(2048), node), Room::Plenty);
    }
}
