//! The checks before anything is created, and the profile that a start works towards.

use std::path::PathBuf;
use std::time::Instant;

use crate::addon::{self, Folder};
use crate::cluster::env::Env;
use crate::cluster::machine::host::Host;
use crate::cluster::machine::watch::Watcher;
use crate::cluster::machine::{Machine, keys, ports, room};
use crate::cluster::saved::suspend;
use crate::cluster::spec::{self, ClusterArgs, StartOptions};
use crate::cluster::start::addon_images::Loading;
use crate::cluster::start::context::{NodeStart, Origin, Start};
use crate::cluster::start::timing::Stopwatch;
use crate::cluster::{Cluster, addons, context, throwaway_mark};
use crate::egress::{self, Egress, HostFacts};
use crate::error::Result;
use crate::fsutil;
use crate::hypervisor::{Acceleration, HostInfo};
use crate::name::ProfileName;
use crate::profile::{self, FILE_VERSION, Profile};
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
    let running = match &existing {
        Some(profile) if !created => settle_machine(&Machine::of(host, profile)?)?,
        _ => false,
    };
    if !running {
        let has = existing.as_ref().map(|p| p.first().machine.memory_mib);
        let memory = room::check_memory_left(args.memory.or(has.map(Mebibytes)), &info)?;
        let crowd = room::crowd(host, acceleration, info.cpus);
        for warning in memory.iter().chain(&crowd) {
            env.progress.warn(warning);
        }
    }
    let cluster = match existing {
        Some(profile) => {
            let mut cluster = Cluster { profile, dir };
            throwaway_mark::clear_abandoned(&cluster.dir)?;
            settle_disk(env, host, &mut cluster)?;
            let fixed = running || suspend::is_suspended(&cluster);
            let profile = &mut cluster.profile;
            spec::change_profile(profile, args, egress, acceleration, &info, fixed)?;
            report_migration(env, &cluster.dir);
            cluster.save()?;
            cluster
        }
        None => create(env, name, kubeconfig, args, egress, acceleration, &info)?,
    };
    let mut start = new_start(env, options, host, host_facts, cluster, info, acceleration)?;
    start.created = created;
    start.was_running = running;
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
        Ok(NodeStart {
            machine: Machine::of_node(host, &cluster.profile, node)?,
            origin: Origin::Booted,
            watcher: Watcher::new(
                Machine::of_node(host, &cluster.profile, node)?,
                acceleration,
            ),
            identity_sent: false,
            session: None,
            late_started: false,
            booted: None,
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
        archives: Vec::new(),
        loading: Loading::default(),
        changed: Vec::new(),
        node_version: String::new(),
        current_context: false,
        renewed: Vec::new(),
        timing: Stopwatch::start(),
        began: Instant::now(),
        boots: 1,
        pki: None,
        egress,
        wanted: None,
        cluster,
    })
}

/// Checks that neither the domain nor the pool of these names is another's.
fn check_owners(host: &Host<'_>, name: &ProfileName, existing: Option<&Profile>) -> Result<()> {
    match existing {
        Some(profile) => drop(Machine::of(host, profile)?.find()?),
        None => Machine::without_profile(host, name).require_absent()?,
    }
    host.refuse_foreign_pool()
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
fn settle_disk(env: &Env<'_>, host: &Host<'_>, cluster: &mut Cluster) -> Result<()> {
    let machine = Machine::of(host, &cluster.profile)?;
    if !cluster.dir.never_ran().exists() {
        if let Some(disk) = machine.disk()? {
            cluster.profile.first_mut().disk = disk;
        }
        return Ok(());
    }
    machine.power_off()?;
    let _shared = env.lock_shared()?;
    for volume in [&cluster.profile.first().disk, &machine.names.seed] {
        host.delete_volume(volume)?;
    }
    fsutil::remove_all(&cluster.dir.pki())?;
    keys::end_handover(&cluster.dir)
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
    // Under one lock until it is saved: two starts never choose the same free port.
    let _shared = env.lock_shared()?;
    let ports = ports::choose(env.store, name, args.ports)?;
    let profile = spec::new_profile(name, kubeconfig, args, egress, acceleration, info, ports)?;
    // Before the profile, without which it means nothing.
    fsutil::create_private_dir(dir.root())?;
    fsutil::write_atomic(&dir.never_ran(), b"", 0o600)?;
    profile.save(&dir)?;
    Ok(Cluster { profile, dir })
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
