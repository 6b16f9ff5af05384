//! The nodes that a profile has: adding those that the flags ask for.

use crate::cluster::machine::names;
use crate::cluster::machine::ports::{self, AskedPorts};
use crate::cluster::machine::room;
use crate::cluster::spec::ClusterArgs;
use crate::error::{Error, Result};
use crate::hypervisor::HostInfo;
use crate::network::{FIRST_NUMBER, LAST_NUMBER};
use crate::profile::{MachineSpec, NodeProfile, Profile};
use crate::role::Role;
use crate::store::Store;

/// Adds control planes and workers to a profile until it has as many as the flags say.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) when it has more, [`Kind::Preflight`](crate::error::Kind::Preflight) when the host has not enough.
pub(crate) fn add(
    store: &Store,
    profile: &mut Profile,
    args: &ClusterArgs,
    host: &HostInfo,
) -> Result<()> {
    let asked = args.counts(profile)?;
    for (role, asked) in [
        (Role::ControlPlane, asked.control_planes),
        (Role::Worker, asked.workers),
    ] {
        let has = profile.of_role(role).count();
        if asked < has {
            let (name, flag) = (&profile.name, profile.name.flag());
            return Err(Error::usage(format!(
                "the cluster `{name}` has {has} {}s, and start removes none",
                role.title().to_lowercase()
            ))
            .with_hint(format!("kubby node list{flag} shows them"))
            .with_hint(format!(
                "kubby node delete{flag} NAME moves a node's pods and removes it"
            )));
        }
        for _ in has..asked {
            add_one(store, profile, role, args, host)?;
        }
    }
    Ok(())
}

/// Gives a profile the port of an endpoint if it has several control planes, and takes it away if it has not.
/// The port that kubectl knows stays where it can: not while a machine has it.
///
/// # Errors
/// [`Kind::Preflight`](crate::error::Kind::Preflight) when there is no free port.
pub(crate) fn settle_endpoint(store: &Store, profile: &mut Profile, runs: bool) -> Result<()> {
    if !profile.has_several_control_planes() {
        let port = profile.endpoint.take().filter(|_| !runs);
        let own = &mut profile.first_mut().ports.api;
        *own = port.or(*own);
        return Ok(());
    }
    if profile.endpoint.is_some() {
        return Ok(());
    }
    let new = ports::choose_one(store, profile)?;
    profile.endpoint = match runs {
        true => Some(new),
        false => profile.first_mut().ports.api.replace(new),
    };
    Ok(())
}

/// Adds one node to a profile; the machine is made by the next start.
///
/// # Errors
/// As [`add`].
fn add_one(
    store: &Store,
    profile: &mut Profile,
    role: Role,
    args: &ClusterArgs,
    host: &HostInfo,
) -> Result<()> {
    let name = profile.name.clone();
    let mut taken = ports::of_others(store, &name)?;
    taken.extend(
        profile
            .host_ports()
            .into_iter()
            .map(|port| (port, name.clone())),
    );
    if profile.first().ports.link.is_none() {
        let link = ports::choose(&mut taken, &name, Role::Worker, true, AskedPorts::default())?;
        profile.first_mut().ports.link = link.link;
    }
    let first = profile.first().machine.clone();
    let usual_cpus = room::usual_further_cpus(first.acceleration, host.cpus, first.cpus);
    let machine = match role {
        Role::ControlPlane => MachineSpec {
            cpus: args.cpus.unwrap_or(usual_cpus),
            ..first
        },
        Role::Worker => MachineSpec {
            cpus: args.worker_cpus.unwrap_or(usual_cpus),
            memory_mib: args.worker_memory.map_or(room::LEAST_MEMORY.0, |m| m.0),
            ..first
        },
    };
    if role == Role::Worker {
        room::check_sizes(&machine, "worker ", host)?;
    }
    let free = |from: u8, used: &dyn Fn(&NodeProfile, u8) -> bool| {
        let is_free = |number: &u8| !profile.nodes.iter().any(|node| used(node, *number));
        (from..=LAST_NUMBER).find(is_free).unwrap_or(LAST_NUMBER)
    };
    let number = free(FIRST_NUMBER, &|node, number| node.number == number);
    // The first control plane has the cluster's own name.
    let from = match role {
        Role::ControlPlane => 2,
        Role::Worker => 1,
    };
    let named = |number: u8| format!("{}-{number}", role.name());
    let node_name = named(free(from, &|node, number| node.name == named(number)));
    let node = NodeProfile {
        role,
        number,
        uuid: uuid::Uuid::new_v4().to_string(),
        disk: names::new_disk(&name, &node_name),
        machine,
        ports: ports::choose(&mut taken, &name, role, true, AskedPorts::default())?,
        name: node_name,
    };
    profile.nodes.push(node);
    Ok(())
}
