//! The states of a cluster's parts, as minikube's users know them: host, kubelet, apiserver, kubeconfig.

mod report;

use std::time::Duration;

use crate::api::ApiClient;
use crate::cluster::Cluster;
use crate::cluster::context;
use crate::cluster::env::Env;
use crate::cluster::machine::Machine;
use crate::cluster::machine::host::Host;
use crate::cluster::operations::certs;
use crate::cluster::policies;
use crate::cluster::saved::suspend;
use crate::error::{Kind, Result};
use crate::hypervisor::State;
use crate::kubeconfig;
use crate::name::ProfileName;
use crate::profile::{NodeProfile, Profile};
use crate::role::Role;
use crate::store::Store;

pub(crate) use report::{ComponentState, HostState, KubeconfigState, NodeState, Status};

/// Finds out what of a cluster runs. With `deep` unset only the virtual machine is looked at.
///
/// # Errors
/// [`crate::error::Kind::Hypervisor`] when libvirt cannot be asked; a damaged cluster is not an
/// error but [`HostState::Broken`].
pub(crate) fn status(env: &Env<'_>, name: &ProfileName, deep: bool) -> Result<Status> {
    let dir = env.store.profile_dir(name);
    if !dir.root().exists() {
        return Ok(Status::nothing(name));
    }
    let cluster = match Profile::load(&dir) {
        Ok(Some(profile)) => Cluster { profile, dir },
        Ok(None) => return Ok(Status::broken(name, "its profile file is missing".into())),
        Err(e) => return Ok(Status::broken(name, e.message().to_owned())),
    };
    let profile = &cluster.profile;
    let (kubeconfig, current_context) = kubeconfig_state(&cluster, env.store);
    let nodes = node_states(env, &cluster, deep)?;
    let first = &nodes[0];
    let worst = |state: fn(&NodeState) -> bool| nodes.iter().find(|node| !state(node));
    let worst = worst(|node| node.host == HostState::Running)
        .or_else(|| worst(|node| node.kubelet == ComponentState::Running))
        .unwrap_or(first);
    let reason = worst.reason.as_ref().map(|reason| match nodes.len() {
        1 => reason.clone(),
        _ => format!("{}: {reason}", worst.name),
    });
    let reason = lacks_majority(&nodes).or(reason);
    let certificates = certs::look(&cluster)?;
    let apiserver = best_apiserver(&nodes);
    Ok(Status {
        warnings: match apiserver {
            ComponentState::Running if policies::are_off(profile) => warnings(env, &cluster),
            _ => Vec::new(),
        },
        certificates_end: certificates.iter().filter_map(|cert| cert.ends_at).min(),
        certificates_due: certificates
            .iter()
            .filter(|cert| cert.renewal.is_some())
            .map(|cert| cert.name.clone())
            .collect(),
        host: worst.host,
        kubelet: worst.kubelet,
        apiserver,
        kubeconfig,
        current_context,
        kubernetes_version: Some(profile.spec.kubernetes_version.clone()),
        server: Some(profile.server()),
        reason,
        nodes,
        ..Status::nothing(name)
    })
}

/// Returns warnings about a cluster that runs; none where the API does not answer.
fn warnings(env: &Env<'_>, cluster: &Cluster) -> Vec<String> {
    let api = cluster.api(env.backend);
    let unenforced = api.and_then(|api| policies::unenforced(&api, &cluster.profile));
    let told = unenforced.ok().flatten();
    told.map(|(text, remedy)| format!("{text} ({remedy})"))
        .into_iter()
        .collect()
}

/// Returns the state of the API: it answers as long as one control plane does.
fn best_apiserver(nodes: &[NodeState]) -> ComponentState {
    let mut all = nodes.iter().filter_map(|node| node.apiserver);
    match all.clone().any(|state| state == ComponentState::Running) {
        true => ComponentState::Running,
        false => all.next().unwrap_or(ComponentState::Stopped),
    }
}

/// Returns what is wrong where etcd has no majority; `None` where enough control planes run, or none.
fn lacks_majority(nodes: &[NodeState]) -> Option<String> {
    let all = nodes.iter().filter(|node| node.role == Role::ControlPlane);
    let (run, off): (Vec<_>, Vec<_>) = all.partition(|node| node.host == HostState::Running);
    let count = run.len() + off.len();
    let needed = count / 2 + 1;
    (!run.is_empty() && run.len() < needed).then(|| {
        let off: Vec<&str> = off.iter().map(|node| node.name.as_str()).collect();
        format!(
            "etcd needs {needed} of {count} control planes, and {} runs; off: {}",
            run.len(),
            off.join(", ")
        )
    })
}

/// Returns the states of all nodes. The API is asked once, and then of each kubelet.
fn node_states(env: &Env<'_>, cluster: &Cluster, deep: bool) -> Result<Vec<NodeState>> {
    let host = Host::open(env, &cluster.profile.connect)?;
    let mut nodes = Vec::new();
    for node in &cluster.profile.nodes {
        let (state, reason) = host_state(&host, cluster, node)?;
        nodes.push(NodeState {
            host: state,
            reason,
            ..NodeState::off(&node.name, node.role)
        });
    }
    let runs =
        |node: &NodeState| node.role == Role::ControlPlane && node.host == HostState::Running;
    if !deep || !nodes.iter().any(runs) {
        return Ok(nodes);
    }
    let several = cluster.profile.has_several_control_planes();
    let api = cluster.api(env.backend).ok();
    let ready = api.as_ref().is_some_and(|api| api.ready().is_ok());
    for (state, node) in nodes.iter_mut().zip(&cluster.profile.nodes) {
        if state.host != HostState::Running {
            continue;
        }
        let unit = |name| unit_state(env, cluster, node, name);
        let healthy = |api: &ApiClient| api.kubelet_healthy(&node.name).unwrap_or(false);
        let is_reached = ready && api.as_ref().is_some_and(healthy);
        state.kubelet = match &api {
            _ if is_reached => ComponentState::Running,
            None => ComponentState::Error,
            _ => unit("kubelet.service"),
        };
        if state.role == Role::Worker
            && ready
            && !is_reached
            && state.kubelet == ComponentState::Running
        {
            state.kubelet = ComponentState::Error;
            let why = "its kubelet runs, but the control plane does not reach it";
            state.reason.get_or_insert_with(|| why.into());
        }
        let own_ready = || {
            let own = cluster.api_of(env.backend, node);
            own.and_then(|own| own.ready()).is_ok()
        };
        let answers = if several { own_ready() } else { ready };
        state.apiserver = state.apiserver.map(|_| match (answers, &api) {
            (true, _) => ComponentState::Running,
            (false, None) => ComponentState::Error,
            (false, Some(_)) => unit("kube-apiserver.service"),
        });
    }
    Ok(nodes)
}

fn host_state(
    host: &Host<'_>,
    cluster: &Cluster,
    node: &NodeProfile,
) -> Result<(HostState, Option<String>)> {
    let broken = |why: String| Ok((HostState::Broken, Some(why)));
    let machine = match Machine::of_node(host, &cluster.profile, node) {
        Ok(machine) => machine,
        Err(e) => return broken(e.message().to_owned()),
    };
    let off = if suspend::is_suspended(cluster) {
        HostState::Suspended
    } else {
        HostState::Stopped
    };
    let disk_fault = || disk_fault(host, &node.disk);
    let domain = match machine.find() {
        Ok(Some(domain)) => domain,
        // A copy of another cluster gets its machine at its first start.
        Ok(None) if cluster.node_dir(node).handover().exists() && disk_fault()?.is_none() => {
            return Ok((off, None));
        }
        Ok(None) => return broken("its virtual machine is not defined in libvirt".into()),
        Err(e) if e.kind() == Kind::State => return broken(e.message().to_owned()),
        Err(e) => return Err(e),
    };
    match domain.state {
        State::Running => Ok((HostState::Running, None)),
        State::Paused => Ok((HostState::Paused, domain.reason)),
        State::Crashed => {
            let why = domain.reason.as_deref();
            let why = why.unwrap_or("libvirt does not say why");
            broken(format!("its virtual machine crashed ({why})"))
        }
        _ => disk_fault()?.map_or(Ok((off, None)), broken),
    }
}

/// Returns why a machine that is off has no disk to start from.
fn disk_fault(host: &Host<'_>, disk: &str) -> Result<Option<String>> {
    let pool = host.pool();
    let Some(found) = host.libvirt().find_pool(pool)? else {
        return Ok(Some(format!("libvirt has no storage pool `{pool}`")));
    };
    if let Some(why) = host.foreign_pool_owner()? {
        let text = format!("the storage pool `{pool}` is not this home's: {why}");
        return Ok(Some(text));
    }
    if !found.active {
        return Ok(Some(format!("the storage pool `{pool}` is not started")));
    }
    let has_disk = host.volumes()?.has(disk);
    Ok((!has_disk).then(|| "its disk is missing".to_owned()))
}

fn kubeconfig_state(cluster: &Cluster, store: &Store) -> (KubeconfigState, bool) {
    let text = std::fs::read_to_string(&cluster.profile.kubeconfig).ok();
    let found = context::expected(cluster, store)
        .and_then(|entry| kubeconfig::inspect(text.as_deref(), &entry));
    match found {
        Ok(found) if found.state == kubeconfig::State::Configured => {
            (KubeconfigState::Configured, found.current)
        }
        found => (
            KubeconfigState::Misconfigured,
            found.is_ok_and(|f| f.current),
        ),
    }
}

/// Returns a unit's state. One that runs is in error here, since it did not answer, but for the
/// kubelet, which may only be out of the API's reach.
fn unit_state(env: &Env<'_>, cluster: &Cluster, node: &NodeProfile, unit: &str) -> ComponentState {
    let limit = cluster.deadline(Duration::from_secs(1));
    let output = cluster
        .target_of(node)
        .and_then(|target| env.backend.connect(&target, limit))
        .and_then(|mut ssh| ssh.run(&format!("systemctl is-active {unit}")));
    match output {
        Ok(output) if !output.stdout.starts_with(b"active") => ComponentState::Stopped,
        Ok(_) if unit == "kubelet.service" => ComponentState::Running,
        _ => ComponentState::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_more_than_half() {
        let lacks = |control_planes: &[bool]| {
            let node = |(index, runs): (usize, &bool)| NodeState {
                host: if *runs {
                    HostState::Running
                } else {
                    HostState::Stopped
                },
                ..NodeState::off(&format!("node-{index}"), Role::ControlPlane)
            };
            let mut nodes: Vec<NodeState> = control_planes.iter().enumerate().map(node).collect();
            nodes.push(NodeState::off("worker-1", Role::Worker));
            lacks_majority(&nodes)
        };
        assert_eq!(lacks(&[true]), None);
        assert_eq!(lacks(&[false]), None);
        assert_eq!(lacks(&[false, false, false]), None);
        assert_eq!(lacks(&[true, true, false]), None);
        assert_eq!(
            lacks(&[true, false, false]).unwrap(),
            "etcd needs 2 of 3 control planes, and 1 runs; off: node-1, node-2"
        );
        assert!(lacks(&[true, false]).is_some() && lacks(&[true, true, false, false]).is_some());
    }
}
