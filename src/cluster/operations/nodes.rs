//! `kubby node`: adding, deleting, starting and stopping single nodes of a cluster.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{Answer, ApiClient, items, segment};
use crate::cluster::Cluster;
use crate::cluster::counts::NodeCounts;
use crate::cluster::env::Env;
use crate::cluster::machine::Machine;
use crate::cluster::machine::host::Host;
use crate::cluster::operations::members;
use crate::cluster::operations::stop::{HowToStop, Stopping, stop_machines};
use crate::cluster::saved::garbage;
use crate::cluster::spec::{ClusterArgs, StartOptions};
use crate::cluster::start::{self, Started};
use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil;
use crate::interrupt;
use crate::name::ProfileName;
use crate::profile::NodeProfile;
use crate::role::Role;
use crate::tool::Tool;

/// Adds nodes to a cluster and starts them. The other nodes are checked and repaired on the way.
///
/// # Errors
/// [`Kind::State`] where there is no such cluster, and as [`start::start`].
pub(crate) fn add(
    env: &Env<'_>,
    name: &ProfileName,
    more: NodeCounts,
    sizes: ClusterArgs,
) -> Result<Started> {
    let has = NodeCounts::of(&Cluster::open(env.store, name)?.profile);
    let sum = |has: usize, more: usize| u8::try_from(has + more).unwrap_or(u8::MAX);
    let options = StartOptions {
        keep_context: true,
        adds_nodes: true,
        cluster: ClusterArgs {
            control_planes: Some(sum(has.control_planes, more.control_planes)),
            workers: Some(sum(has.workers, more.workers)),
            ..sizes
        },
        ..StartOptions::default()
    };
    start::start(env, name, &options)
}

/// The time until Kubernetes' controllers have seen that a node is gone, with hardware virtualisation.
const CONTROLLERS_SEE: Duration = Duration::from_millis(300);

/// The wishes about the deletion of a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deletion {
    /// It is removed even if its pods cannot be moved.
    pub(crate) force: bool,
    /// The data of local volumes on its disk is removed with it.
    pub(crate) delete_data: bool,
    /// The time that its pods have for moving.
    pub(crate) limit: Duration,
}

/// Moves a node's pods to other nodes, and removes the node with all that belongs to it.
///
/// # Errors
/// [`Kind::Usage`] for the first control plane, [`Kind::State`] for a node that does not exist, a cluster
/// that is not running, volumes whose data would be lost, or a majority that would be lost,
/// [`Kind::Unhealthy`] when pods cannot be moved: the node stays then, and takes no new pods.
pub(crate) fn delete(
    env: &Env<'_>,
    name: &ProfileName,
    node: &str,
    asked: &Deletion,
) -> Result<()> {
    let (mut cluster, lock) = Cluster::open_locked(env, name)?;
    let profile = cluster.find_node(Some(node))?.clone();
    require_not_first(&cluster, node)?;
    let host = Host::open(env, &cluster.profile.connect)?;
    Machine::of(&host, &cluster.profile)?
        .require_running(": the node cannot be taken out of it")?;
    let machine = Machine::of_node(&host, &cluster.profile, &profile)?;
    if profile.role == Role::ControlPlane {
        members::check_majority(env, &cluster, &profile, asked.force)?;
    }
    let api = cluster.api(env.backend)?;
    require_no_data(&api, name, node, asked.delete_data)?;
    // One that never joined, or is gone already, has no pods.
    let is_known = api.node(node)?.is_some();
    if is_known && (machine.state()?.is_active() || !asked.force) {
        match drain(env, &cluster, &profile, asked.limit) {
            Err(e) if asked.force && e.kind() != Kind::Interrupted => env.progress.warn(&format!(
                "the pods of `{node}` were not all moved, and are lost with it: {e}"
            )),
            drained => drained?,
        }
    }
    let step = env.progress.step(&format!("Delete the node {node}"));
    if profile.role == Role::ControlPlane {
        members::leave(env, &cluster, &profile)?;
    }
    // The machine first, so that the node does not register itself again.
    machine.undefine()?;
    let gone = api.delete(&format!("/api/v1/nodes/{node}"))?;
    require_gone(gone, "deleting the Node object")?;
    // Controllers that count pods by nodes look again when a pod goes, and have to know by then that the node
    // is gone.
    interrupt::sleep(cluster.deadline(CONTROLLERS_SEE))?;
    forget_pods(&api, node)?;
    let shared = env.lock_shared()?;
    if host.has_own_pool()? {
        machine.remove_own_files()?;
    }
    let dir = cluster.node_dir(&profile);
    cluster.profile.nodes.retain(|other| other.name != node);
    cluster.save()?;
    // Last: without its folder a node in the profile would count as one that never ran.
    fsutil::remove_all(dir.root())?;
    garbage::sweep(&host, None)?;
    drop(shared);
    step.done("");
    drop(lock);
    // The other nodes forget its link.
    start::start(env, name, &again()).map(drop)
}

/// Checks that a node is not the one that the cluster began with, and whose folder has the cluster's keys.
fn require_not_first(cluster: &Cluster, node: &str) -> Result<()> {
    if node != cluster.profile.first().name {
        return Ok(());
    }
    let which = match cluster.profile.has_several_control_planes() {
        true => "first",
        false => "only",
    };
    Err(Error::usage(format!(
        "`{node}` is the {which} control plane: the cluster does not exist without it"
    ))
    .with_hint(format!(
        "kubby delete{} deletes the cluster",
        cluster.flag()
    )))
}

/// Removes the Pod objects of a node that is gone: Kubernetes would keep them for a minute, and what counts
/// them would wait for them.
fn forget_pods(api: &ApiClient, node: &str) -> Result<()> {
    let list = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node}");
    for pod in items(&api.get_json(&list)?["items"]) {
        let name = |key: &str| segment(pod["metadata"][key].as_str().unwrap_or_default());
        let (namespace, name) = (name("namespace")?, name("name")?);
        let gone = api.forget_pod(&format!("/api/v1/namespaces/{namespace}/pods/{name}"))?;
        require_gone(gone, "deleting a pod of the node")?;
    }
    Ok(())
}

/// Checks the answer to a deletion; what is not there any more need not be deleted.
fn require_gone(answer: Answer, what: &str) -> Result<()> {
    match answer.status {
        404 => Ok(()),
        _ => answer.require(what).map(drop),
    }
}

/// Starts a cluster as it is, so that the nodes that are off run again.
pub(crate) fn again() -> StartOptions {
    StartOptions {
        keep_context: true,
        ..StartOptions::default()
    }
}

/// Checks that no data of claims would be lost with a node, unless that is asked for.
fn require_no_data(api: &ApiClient, name: &ProfileName, node: &str, asked: bool) -> Result<()> {
    let claims = claims_on(api, node)?;
    if claims.is_empty() || asked {
        return Ok(());
    }
    Err(Error::state(format!(
        "the data of these claims is on the disk of `{node}`: {}",
        claims.join(", ")
    ))
    .with_hint("copy what you need, and delete the claims")
    .with_hint(format!(
        "kubby node delete{} {node} --delete-data deletes the data with the node",
        name.flag()
    )))
}

/// Returns the claims, as `namespace/name`, whose volumes are on a node's disk.
fn claims_on(api: &ApiClient, node: &str) -> Result<Vec<String>> {
    let volumes = api.get_json("/api/v1/persistentvolumes")?;
    let claims = items(&volumes["items"]).filter(|volume| is_on(volume, node));
    let claims = claims.map(|volume| {
        let claim = &volume["spec"]["claimRef"];
        let text = |part: &str| claim[part].as_str().unwrap_or_default().to_owned();
        format!("{}/{}", text("namespace"), text("name"))
    });
    Ok(claims.collect())
}

/// Returns whether a volume can be used on this node only.
fn is_on(volume: &Value, node: &str) -> bool {
    let mut terms = items(&volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]);
    let names = |expression: &Value| {
        expression["key"] == "kubernetes.io/hostname"
            && expression["operator"] == "In"
            && expression["values"] == json!([node])
    };
    terms.any(|term| items(&term["matchExpressions"]).any(names))
}

/// Lets no new pods run on a node, and evicts those that run there, as far as their budgets allow it.
fn drain(env: &Env<'_>, cluster: &Cluster, node: &NodeProfile, limit: Duration) -> Result<()> {
    let step = env
        .progress
        .step(&format!("Move the pods of {}", node.name));
    let kubectl = &cluster.profile.assets.kubectl;
    Tool::new(kubectl.to_string_lossy(), Kind::Unhealthy)
        .args([
            "drain",
            node.name.as_str(),
            "--ignore-daemonsets",
            "--delete-emptydir-data",
        ])
        .arg(format!("--timeout={}s", limit.as_secs()))
        .env("KUBECONFIG", cluster.dir.kubeconfig())
        .deadline(limit + Duration::from_secs(30))
        .run(Some(step.sink()))
        .context(Kind::Unhealthy, || {
            format!("the pods of the node `{}` cannot be moved", node.name)
        })
        .map_err(|e| {
            e.with_hint(format!(
                "kubby node delete{} {} --force deletes it with its pods",
                cluster.flag(),
                node.name
            ))
        })?;
    step.done("");
    Ok(())
}

/// Stops the machine of a node. Returns whether it was running.
///
/// # Errors
/// [`Kind::State`] for a node that does not exist, [`Kind::Hypervisor`] when libvirt fails.
pub(crate) fn stop(env: &Env<'_>, name: &ProfileName, node: &str, force: bool) -> Result<bool> {
    let (cluster, _lock) = Cluster::open_locked(env, name)?;
    let host = Host::open(env, &cluster.profile.connect)?;
    let node = cluster.find_node(Some(node))?;
    let machine = &Machine::of_node(&host, &cluster.profile, node)?;
    let step = env.progress.step(&format!("Stop the node {}", node.name));
    match machine.find()? {
        Some(domain) if domain.state.is_active() => {
            let how = HowToStop {
                force,
                ..HowToStop::default()
            };
            let stopping = Stopping {
                node,
                machine,
                domain,
            };
            let note = stop_machines(env, &cluster, &[&stopping], how, &step)?;
            step.done(note);
            Ok(true)
        }
        _ => {
            step.skipped("it is stopped already");
            Ok(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_volume_is_on_one_node() {
        let volume = |operator: &str, nodes: Value| {
            json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": operator, "values": nodes},
            ]}]}}}})
        };
        assert!(is_on(&volume("In", json!(["worker-1"])), "worker-1"));
        assert!(!is_on(&volume("In", json!(["worker-1"])), "worker-2"));
        assert!(!is_on(
            &volume("In", json!(["worker-1", "worker-2"])),
            "worker-1"
        ));
        assert!(!is_on(&volume("NotIn", json!(["worker-1"])), "worker-1"));
        assert!(!is_on(&json!({"spec": {}}), "worker-1"));
    }
}
