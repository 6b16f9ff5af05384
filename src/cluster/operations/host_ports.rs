//! `kubby host-port`: ports of the host's loopback that the cluster may connect to.

use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::cluster::machine::host::Host;
use crate::cluster::node::CONNECT_LIMIT;
use crate::cluster::operations::running;
use crate::error::{Error, Result};
use crate::host_port::{HostPort, NamedPort};
use crate::name::ProfileName;
use crate::provision;

/// Opens a port, or changes who may connect to it; returns whether the nodes have it already. Those that are off
/// get it when they start.
///
/// # Errors
/// [`Kind::State`](crate::error::Kind::State) for a cluster that does not exist, [`Kind::NodeUnreachable`](crate::error::Kind::NodeUnreachable) when a node does not
/// answer: the next start opens the port there.
pub(crate) fn add(env: &Env<'_>, name: &ProfileName, port: HostPort) -> Result<bool> {
    let (mut cluster, _lock) = Cluster::open_locked(env, name)?;
    let ports = &mut cluster.profile.opened;
    let same = ports.iter().position(|other| other.named() == port.named());
    let before = same.map(|index| ports.remove(index));
    // Connections of pods that may no longer connect end.
    let narrowed = before.filter(|before| before.callers > port.callers);
    ports.push(port);
    ports.sort_by_key(|port| (port.port, port.protocol));
    cluster.save()?;
    apply(env, &cluster, narrowed.as_ref())
}

/// Closes a port again.
///
/// # Errors
/// As [`add`]; [`Kind::Usage`](crate::error::Kind::Usage) for a port that is not open.
pub(crate) fn remove(env: &Env<'_>, name: &ProfileName, port: NamedPort) -> Result<bool> {
    let (mut cluster, _lock) = Cluster::open_locked(env, name)?;
    let ports = &mut cluster.profile.opened;
    let Some(index) = ports.iter().position(|other| other.named() == port) else {
        let message = format!("port {port} of this host is not open to the cluster `{name}`");
        return Err(Error::usage(message).with_hint(format!(
            "see those that are: kubby host-port list{}",
            name.flag()
        )));
    };
    let closed = ports.remove(index);
    cluster.save()?;
    apply(env, &cluster, Some(&closed))
}

/// Brings the rules into force in all nodes that run; returns whether there are any.
fn apply(env: &Env<'_>, cluster: &Cluster, closed: Option<&HostPort>) -> Result<bool> {
    let host = Host::open(env, &cluster.profile.connect)?;
    let nodes = running::nodes(&host, cluster)?;
    let mut failed = Ok(());
    for node in &nodes {
        let limit = node.deadline(CONNECT_LIMIT);
        let session = env.backend.connect(&node.target, limit);
        let done = session.and_then(|mut session| {
            provision::open_host_ports(session.as_mut(), &cluster.profile.opened, closed)
        });
        let repair = || {
            format!(
                "kubby start{} repairs the node `{}`",
                cluster.flag(),
                node.name
            )
        };
        // A node that does not answer keeps none of the others from it.
        failed = failed.and(done.map_err(|e| e.with_hint(repair())));
    }
    failed.map(|()| !nodes.is_empty())
}
