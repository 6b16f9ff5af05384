//! The states of a cluster's parts, as minikube's users know them: host, kubelet, apiserver, kubeconfig.

use std::time::Duration;

use serde::Serialize;

use crate::cluster::Cluster;
use crate::cluster::context;
use crate::cluster::env::Env;
use crate::cluster::machine::Machine;
use crate::cluster::machine::host::Host;
use crate::cluster::operations::certs;
use crate::cluster::saved::suspend;
use crate::error::{Kind, Result};
use crate::hypervisor::State;
use crate::kubeconfig;
use crate::name::ProfileName;
use crate::profile::Profile;
use crate::store::Store;

/// The virtual machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum HostState {
    /// It runs.
    Running,
    /// It is frozen in memory.
    Paused,
    /// Its memory is saved to the disk; `start` takes it up.
    Suspended,
    /// It is off; `start` brings it back with its data.
    Stopped,
    /// Something of it is missing or damaged; the reason says what.
    Broken,
    /// There is no such cluster.
    Nonexistent,
}

/// A process in the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum ComponentState {
    /// It runs and says that it is well.
    Running,
    /// It runs and says that it is not well, or it does not answer.
    Error,
    /// It does not run.
    Stopped,
    /// There is no such cluster.
    Nonexistent,
}

/// kubby's entries in the user's kubeconfig.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum KubeconfigState {
    /// They are there and fit the cluster.
    Configured,
    /// They are missing or do not fit; `start` mends them.
    Misconfigured,
    /// There is no such cluster.
    Nonexistent,
}

/// The result of `kubby status`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    /// The profile.
    pub profile: ProfileName,
    /// The virtual machine.
    pub host: HostState,
    /// The kubelet.
    pub kubelet: ComponentState,
    /// kube-apiserver.
    pub apiserver: ComponentState,
    /// The user's kubeconfig.
    pub kubeconfig: KubeconfigState,
    /// The context's name.
    pub context: String,
    /// Whether the context is kubectl's current one.
    pub current_context: bool,
    /// Kubernetes version with `v`; absent where the profile does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
    /// URL of kube-apiserver on the host; absent where the profile does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The end of the first of the cluster's certificates, seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificates_end: Option<i64>,
    /// Certificates that the next start renews: they end within 30 days, or do not fit any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates_due: Vec<&'static str>,
    /// The reason why something is not as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Status {
    /// Everything runs and is configured.
    pub(crate) fn is_healthy(&self) -> bool {
        self.host == HostState::Running
            && self.kubelet == ComponentState::Running
            && self.apiserver == ComponentState::Running
            && self.kubeconfig == KubeconfigState::Configured
    }

    fn nothing(name: &ProfileName) -> Self {
        Status {
            profile: name.clone(),
            host: HostState::Nonexistent,
            kubelet: ComponentState::Nonexistent,
            apiserver: ComponentState::Nonexistent,
            kubeconfig: KubeconfigState::Nonexistent,
            context: name.resource_name(),
            current_context: false,
            kubernetes_version: None,
            server: None,
            certificates_end: None,
            certificates_due: Vec::new(),
            reason: None,
        }
    }

    fn broken(name: &ProfileName, reason: String) -> Self {
        Status {
            host: HostState::Broken,
            kubelet: ComponentState::Stopped,
            apiserver: ComponentState::Stopped,
            kubeconfig: KubeconfigState::Misconfigured,
            reason: Some(reason),
            ..Status::nothing(name)
        }
    }
}

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
    let (host, reason) = host_state(env, &cluster)?;
    let (kubeconfig, current_context) = kubeconfig_state(&cluster, env.store);
    let (apiserver, kubelet) = if host == HostState::Running && deep {
        components(env, &cluster)
    } else {
        (ComponentState::Stopped, ComponentState::Stopped)
    };
    let certificates = certs::look(&cluster)?;
    Ok(Status {
        certificates_end: certificates.iter().filter_map(|cert| cert.ends_at).min(),
        certificates_due: certificates
            .iter()
            .filter(|cert| cert.renewal.is_some())
            .map(|cert| cert.name)
            .collect(),
        host,
        kubelet,
        apiserver,
        kubeconfig,
        current_context,
        kubernetes_version: Some(profile.spec.kubernetes_version.clone()),
        server: Some(profile.server()),
        reason,
        ..Status::nothing(name)
    })
}

fn host_state(env: &Env<'_>, cluster: &Cluster) -> Result<(HostState, Option<String>)> {
    let host = Host::open(env, &cluster.profile.connect)?;
    let broken = |why: String| Ok((HostState::Broken, Some(why)));
    let machine = match Machine::of(&host, &cluster.profile) {
        Ok(machine) => machine,
        Err(e) => return broken(e.message().to_owned()),
    };
    let off = if suspend::is_suspended(cluster) {
        HostState::Suspended
    } else {
        HostState::Stopped
    };
    let disk_fault = || disk_fault(&host, &cluster.profile.first().disk);
    let domain = match machine.find() {
        Ok(Some(domain)) => domain,
        // A copy of another cluster gets its machine at its first start.
        Ok(None) if cluster.dir.handover().exists() && disk_fault()?.is_none() => {
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

/// Asks kube-apiserver, and through it the kubelet; asks systemd over SSH only if it does not answer.
fn components(env: &Env<'_>, cluster: &Cluster) -> (ComponentState, ComponentState) {
    let Ok(api) = cluster.api(env.backend) else {
        return (ComponentState::Error, ComponentState::Error);
    };
    let unit = |name| unit_state(env, cluster, name);
    if api.ready().is_err() {
        return (unit("kube-apiserver.service"), unit("kubelet.service"));
    }
    let kubelet = match api.kubelet_healthy(&cluster.profile.first().name) {
        Ok(true) => ComponentState::Running,
        _ => unit("kubelet.service"),
    };
    (ComponentState::Running, kubelet)
}

/// Returns a unit's state. One that runs is in error here, since it did not answer, but for the
/// kubelet, which may only be out of the API's reach.
fn unit_state(env: &Env<'_>, cluster: &Cluster, unit: &str) -> ComponentState {
    let limit = cluster.deadline(Duration::from_secs(1));
    let output = cluster
        .target()
        .and_then(|target| env.backend.connect(&target, limit))
        .and_then(|mut ssh| ssh.run(&format!("systemctl is-active {unit}")));
    match output {
        Ok(output) if !output.stdout.starts_with(b"active") => ComponentState::Stopped,
        Ok(_) if unit == "kubelet.service" => ComponentState::Running,
        _ => ComponentState::Error,
    }
}
