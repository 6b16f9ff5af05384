//! A cluster whose machine runs, for commands that need its API.

use crate::api::ApiClient;
use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::cluster::machine::Machine;
use crate::cluster::machine::host::Host;
use crate::error::Result;
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
