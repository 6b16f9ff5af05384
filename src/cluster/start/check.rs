//! The checks before anything is created, and the profile that a start works towards.

use std::path::PathBuf;
use std::time::Instant;

use crate::addon::{self, Folder};
use crate::cluster::counts::NodeCounts;
use crate::cluster::env::Env;
use crate::cluster::machine::host::Host;
use crate::cluster::machine::watch::Watcher;
use crate::cluster::machine::{Machine, keys, ports, room};
use crate::cluster::saved::suspend;
use crate::cluster::spec::{self, ClusterArgs, StartOptions};
use crate::cluster::start::addon_images::Loading;
use crate::cluster::start::context::{NodeStart, Origin, Start};
use crate::cluster::start::timing::Stopwatch;
use crate::cluster::{Cluster, addons, context, nodes, throwaway_mark};
use crate::egress::{self, Egress, HostFacts};
use crate::error::Result;
use crate::fsutil;
use crate::hypervisor::{Acceleration, HostInfo, State};
use crate::name::ProfileName;
use crate::profile::{self, FILE_VERSION, Profile};
use crate::role::Role;
use crate::store::ProfileDir;
use crate::units::Mebibytes;

/// Checks everything that can be checked before anything is created, then settles the profile and saves
/// it.
///
/// # Errors
/// [`Kind::State`](crate::error::Kind::State) for a domain of another home or profile, [`Kind::Kubeconfig`](crate::error::Kind::Kubeconfig) for a context of
/// another's, [`Kind::Preflight`](crate::error::Kind::Preflight) for a host that cannot do it, [`Kind::Usage`](crate::error::Kind::Usage) for bad settings.
pub(super) fn begin<'a>(
    env: &Env<'a>,
    name: &ProfileName,
    options: &'a StartOptions,
    host: &'a Host<'a>,
    host_facts: &HostFacts,
    existing: Option<Profile>,
    egress: &egress::Settings,
) -> Result<Start<'a>> {
    let step = env.progress.step("Check the host");
    let args = &options.cluster;
    let info = host.info()?;
    let dir = env.store.profile_dir(name);
    check_owners(host, name, existing.as_ref())?;
    let kubeconfig = settle_kubeconfig(env, name, options, existing.as_ref())?;
    let facts = env.backend.acceleration_facts(&info);
    let (acceleration, reason) = spec::acceleration(args.accel, existing.as_ref(), &info, &facts)?;
    let created = existing.is_none() || dir.never_ran().exists();
    let asked = addons::asked(args, existing.as_ref())?;
    let running = match (&existing, created) {
        (Some(profile), false) => settle_machines(host, profile, &dir)?,
        (Some(profile), true) => vec![false; profile.nodes.len()],
        (None, _) => Vec::new(),
    };
    let first_runs = running.first() == Some(&true);
    for warning in check_room(host, args, existing.as_ref(), &running, acceleration, &info)? {
        env.progress.warn(&warning);
    }
    let cluster = match existing {
        Some(profile) => {
            let mut cluster = Cluster { profile, dir };
            throwaway_mark::clear_abandoned(&cluster.dir)?;
            (0..cluster.profile.nodes.len())
                .try_for_each(|node| settle_disk(env, host, &mut cluster, node))?;
            let fixed = first_runs || suspend::is_suspended(&cluster);
            let profile = &mut cluster.profile;
            spec::change_profile(profile, args, egress, acceleration, &info, fixed)?;
            report_migration(env, &cluster.dir);
            let _shared = env.lock_shared()?;
            add_nodes(env, &mut cluster, args, &info, first_runs)?;
            cluster
        }
        None => create(env, name, kubeconfig, args, egress, acceleration, &info)?,
    };
    let mut start = new_start(env, options, host, host_facts, cluster, info, acceleration)?;
    start.created = created;
    for (node, runs) in start.nodes.iter_mut().zip(running) {
        node.runs = runs;
    }
    start.was_running = start.nodes.iter().all(|node| node.runs);
    start.archives = asked.iter().flat_map(|f| f.archives.clone()).collect();
    settle_addons(&mut start.cluster, &asked, &args.no_addon)?;
    let machine = &start.cluster.profile.first().machine;
    let (cpus, memory) = (machine.cpus, Mebibytes(machine.memory_mib));
    step.done(format!(
        "{acceleration} ({reason}), {cpus} CPUs, {memory} memory"
    ));
    Ok(start)
}

/// Returns the kubeconfig that gets the context, after checking that it can.
fn settle_kubeconfig(
    env: &Env<'_>,
    name: &ProfileName,
    options: &StartOptions,
    existing: Option<&Profile>,
) -> Result<PathBuf> {
    let kubeconfig = match existing {
        Some(profile) => profile.kubeconfig.clone(),
        None if options.own_kubeconfig => env.store.profile_dir(name).kubeconfig(),
        None => env.backend.kubeconfig()?,
    };
    context::check(env.store, name, &kubeconfig)?;
    Ok(kubeconfig)
}

fn new_start<'a>(
    env: &Env<'a>,
    options: &'a StartOptions,
    host: &'a Host<'a>,
    host_facts: &HostFacts,
    cluster: Cluster,
    info: HostInfo,
    acceleration: Acceleration,
) -> Result<Start<'a>> {
    let (egress, warnings) = Egress::gather(&cluster.profile.spec.egress, host_facts)?;
    for warning in warnings {
        env.progress.warn(&warning);
    }
    let nodes = cluster.profile.nodes.iter().map(|node| {
        let machine = Machine::of_node(host, &cluster.profile, node)?;
        Ok(NodeStart {
            watcher: Watcher::new(machine.clone(), acceleration),
            machine,
            origin: Origin::Booted,
            created: cluster.node_dir(node).never_ran().exists(),
            template: None,
            copy_of: None,
            boots: 1,
            runs: false,
            identity_sent: false,
            session: None,
            late_started: false,
            joined: false,
            booted: None,
            compared: false,
            pki: None,
            wanted: None,
        })
    });
    Ok(Start {
        env: *env,
        options,
        host,
        info,
        acceleration,
        created: false,
        was_running: false,
        nodes: nodes.collect::<Result<_>>()?,
        template: None,
        settled: false,
        archives: Vec::new(),
        loading: Loading::default(),
        changed: Vec::new(),
        node_version: String::new(),
        current_context: false,
        renewed: Vec::new(),
        timing: Stopwatch::start(),
        began: Instant::now(),
        egress,
        cluster,
    })
}

/// Checks that neither the domain nor the pool of these names is another's.
fn check_owners(host: &Host<'_>, name: &ProfileName, existing: Option<&Profile>) -> Result<()> {
    match existing {
        Some(profile) => {
            for node in &profile.nodes {
                Machine::of_node(host, profile, node)?.find()?;
            }
        }
        None => Machine::without_profile(host, name).require_absent()?,
    }
    host.refuse_foreign_pool()
}

/// Checks that the host can carry the machines that are started; returns warnings.
fn check_room(
    host: &Host<'_>,
    args: &ClusterArgs,
    existing: Option<&Profile>,
    running: &[bool],
    acceleration: Acceleration,
    info: &HostInfo,
) -> Result<Vec<String>> {
    let first_runs = running.first() == Some(&true);
    let alone = NodeCounts {
        control_planes: 1,
        workers: 0,
    };
    let has = existing.map_or(alone, NodeCounts::of);
    let asked = args.counts_beside(has)?;
    let further = |role: Role, asked: usize, has: usize| {
        let nodes = existing.iter().flat_map(|profile| &profile.nodes);
        let others = nodes.zip(running).skip(1);
        let run = others.filter(|(node, runs)| node.role == role && **runs);
        asked.max(has) - run.count()
    };
    let control_planes = further(Role::ControlPlane, asked.control_planes, has.control_planes) - 1;
    let workers = further(Role::Worker, asked.workers, has.workers);
    let mut warnings = Vec::new();
    if asked.control_planes > has.control_planes && asked.control_planes.is_multiple_of(2) {
        let (all, fewer) = (asked.control_planes, asked.control_planes - 1);
        warnings.push(format!(
            "{all} control planes survive the loss of no more of them than {fewer} do"
        ));
    }
    if !first_runs {
        let has = existing.map(|p| p.first().machine.memory_mib);
        warnings.extend(room::check_memory_left(
            args.memory.or(has.map(Mebibytes)),
            info,
        )?);
    }
    room::check_nodes_fit(control_planes, workers, info)?;
    let more = control_planes + workers + usize::from(!first_runs);
    if more > 0 {
        warnings.extend(room::crowd(host, acceleration, info.cpus, more));
    }
    Ok(warnings)
}

/// Returns which of a cluster's machines run, or can continue. A machine that never ran will be made again.
fn settle_machines(host: &Host<'_>, profile: &Profile, dir: &ProfileDir) -> Result<Vec<bool>> {
    let cluster = Cluster {
        profile: profile.clone(),
        dir: dir.clone(),
    };
    let machines = Machine::all(host, profile)?;
    let mut running = Vec::new();
    let mut states = Vec::new();
    for (machine, node) in machines.iter().zip(&profile.nodes) {
        let never_ran = cluster.node_dir(node).never_ran().exists();
        running.push(!never_ran && settle_machine(machine)?);
        states.push(machine.state()?);
    }
    // Saved memory that exists has not run since: machines that were loaded, or not powered off yet, when a
    // process was killed are as they were saved, and all of them are loaded together.
    let paused = |(runs, state): (&bool, &State)| !runs || *state == State::Paused;
    let some = running.contains(&true) && running.contains(&false);
    if some && suspend::is_suspended(&cluster) && running.iter().zip(&states).all(paused) {
        for machine in &machines {
            machine.power_off()?;
        }
        running.fill(false);
    }
    Ok(running)
}

/// Returns whether the machine runs, or can continue. One that was killed while it was loaded never
/// will, and has done nothing yet: it is powered off, and its saved memory still exists.
fn settle_machine(machine: &Machine<'_>) -> Result<bool> {
    if !machine.state()?.is_active() {
        return Ok(false);
    }
    if machine.is_half_loaded()? {
        machine.power_off()?;
        return Ok(false);
    }
    Ok(true)
}

/// Records the disk that libvirt has for a machine that ran. Removes what a start has made that was cut
/// short before the machine ran: keys of a template and a disk over another one's are of no use to a start
/// that begins in another way.
fn settle_disk(env: &Env<'_>, host: &Host<'_>, cluster: &mut Cluster, node: usize) -> Result<()> {
    let profile = &cluster.profile.nodes[node];
    let machine = Machine::of_node(host, &cluster.profile, profile)?;
    let dir = cluster.node_dir(profile);
    if !dir.never_ran().exists() {
        if let Some(disk) = machine.disk()? {
            cluster.profile.nodes[node].disk = disk;
        }
        return Ok(());
    }
    machine.power_off()?;
    let _shared = env.lock_shared()?;
    for volume in [&profile.disk, &machine.names.seed] {
        host.delete_volume(volume)?;
    }
    fsutil::remove_all(&dir.pki())?;
    keys::end_handover(&dir)
}

/// Records the nodes that the flags ask for and the profile lacks, and saves the profile. Their machines are
/// made later. The caller holds the shared lock: two starts never choose the same free port.
fn add_nodes(
    env: &Env<'_>,
    cluster: &mut Cluster,
    args: &ClusterArgs,
    info: &HostInfo,
    runs: bool,
) -> Result<()> {
    let before = cluster.profile.nodes.len();
    grow(env, &mut cluster.profile, args, info)?;
    nodes::settle_endpoint(env.store, &mut cluster.profile, runs)?;
    for node in &cluster.profile.nodes[before..] {
        let dir = cluster.node_dir(node);
        // An earlier node of this name may have left its folder. The mark comes before the profile,
        // without which it means nothing.
        fsutil::remove_all(dir.root())?;
        fsutil::create_private_dir(dir.root())?;
        fsutil::write_atomic(&dir.never_ran(), b"", 0o600)?;
    }
    cluster.save()
}

/// Adds the nodes that the flags ask for to a profile.
fn grow(env: &Env<'_>, profile: &mut Profile, args: &ClusterArgs, info: &HostInfo) -> Result<()> {
    nodes::add(env.store, profile, args, info)?;
    match profile.has_several_control_planes() {
        true => env.backend.can_have_endpoints(),
        false => Ok(()),
    }
}

fn report_migration(env: &Env<'_>, dir: &ProfileDir) {
    if let Some((version, _)) = profile::earlier(dir) {
        env.progress.note(&format!(
            "the profile's file had version {version} and now has version {FILE_VERSION}; the earlier \
             file stays as {}",
            dir.earlier_profile(version).display()
        ));
    }
}

/// Creates a cluster's folder and its profile.
fn create(
    env: &Env<'_>,
    name: &ProfileName,
    kubeconfig: PathBuf,
    args: &ClusterArgs,
    egress: &egress::Settings,
    acceleration: Acceleration,
    info: &HostInfo,
) -> Result<Cluster> {
    let dir = env.store.profile_dir(name);
    // A folder without a profile is left over from a fork that was cut short.
    throwaway_mark::empty_folder(&dir)?;
    let _shared = env.lock_shared()?;
    let mut taken = ports::of_others(env.store, name)?;
    let ports = ports::choose(&mut taken, name, Role::ControlPlane, false, args.ports)?;
    let profile = spec::new_profile(name, kubeconfig, args, egress, acceleration, info, ports)?;
    // What the host cannot carry is refused before anything is made.
    grow(env, &mut profile.clone(), args, info)?;
    // Before the profile, without which it means nothing.
    fsutil::create_private_dir(dir.root())?;
    fsutil::write_atomic(&dir.never_ran(), b"", 0o600)?;
    let mut cluster = Cluster { profile, dir };
    add_nodes(env, &mut cluster, args, info, false)?;
    Ok(cluster)
}

/// Records the cluster's add-ons.
fn settle_addons(cluster: &mut Cluster, asked: &[Folder], unwanted: &[String]) -> Result<()> {
    let mut wanted = cluster.profile.spec.addons.clone();
    for Folder { addon, .. } in asked {
        if addon.folder.is_some() {
            addon::keep(&cluster.dir, addon)?;
        }
        if !wanted.contains(&addon.name) {
            wanted.push(addon.name.clone());
        }
    }
    wanted.retain(|name| !unwanted.contains(name));
    if cluster.profile.spec.addons == wanted {
        return Ok(());
    }
    cluster.profile.spec.addons = wanted;
    cluster.save()
}
