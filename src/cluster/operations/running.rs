//! A cluster whose machine runs, for commands that need its API.

use crate::api::ApiClient;
use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::cluster::machine::Machine;
use crate::cluster::machine::host::Host;
use crate::cluster::node::Node;
use crate::error::Result;
use crate::hypervisor::State;
use crate::name::ProfileName;

/// A cluster whose machine runs, with its host and its API.
pub(crate) struct Running<'a> {
    pub(crate) env: Env<'a>,
    /// The cluster.
    pub cluster: Cluster,
    pub(crate) host: Host<'a>,
    /// Its API, as the operator.
    pub api: ApiClient,
}

impl<'a> Running<'a> {
    /// Opens a cluster; `so` completes the error for one that is not running.
    ///
    /// # Errors
    /// [`crate::error::Kind::State`] if it does not exist or its machine does not run,
    /// [`crate::error::Kind::Hypervisor`] when libvirt does not answer.
    pub(crate) fn open(env: &Env<'a>, name: &ProfileName, so: &str) -> Result<Self> {
        let cluster = Cluster::open(env.store, name)?;
        let host = Host::open(env, &cluster.profile.connect)?;
        Machine::of(&host, &cluster.profile)?.require_running(so)?;
        Ok(Running {
            env: *env,
            api: cluster.api(env.backend)?,
            cluster,
            host,
        })
    }
}

/// Returns the nodes of a cluster whose machines run.
///
/// # Errors
/// [`crate::error::Kind::Hypervisor`] when libvirt does not answer, [`crate::error::Kind::State`] when the cluster's keys are missing.
pub(crate) fn nodes(host: &Host<'_>, cluster: &Cluster) -> Result<Vec<Node>> {
    let machines = Machine::all(host, &cluster.profile)?;
    let mut running = Vec::new();
    for (node, machine) in cluster.nodes()?.into_iter().zip(machines) {
        if machine.state()? == State::Running {
            running.push(node);
        }
    }
    Ok(running)
}
