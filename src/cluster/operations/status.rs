//! What of a cluster runs, as minikube's users know it: host, kubelet, apiserver, kubeconfig.

use std::time::Duration;

use serde::Serialize;

use crate::cluster::Access;
use crate::cluster::machine::resources::{Names, Volumes};
use crate::cluster::operations::certs;
use crate::error::Result;
use crate::hypervisor::{Hypervisor, Libvirt, State};
use crate::kubeconfig;
use crate::network::NODE_NAME;
use crate::profile::{Profile, ProfileName};
use crate::remote::{Remote, Ssh};
use crate::store::Store;

/// The virtual machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum HostState {
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
pub enum ComponentState {
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
pub enum KubeconfigState {
    /// They are there and fit the cluster.
    Configured,
    /// They are missing or do not fit; `start` mends them.
    Misconfigured,
    /// There is no such cluster.
    Nonexistent,
}

/// What `kubby status` tells.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
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
    /// When the first of the cluster's certificates ends, seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificates_end: Option<i64>,
    /// Certificates that the next start renews: they end within 30 days, or do not fit any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates_due: Vec<&'static str>,
    /// Why something is not as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Status {
    /// Everything runs and is configured.
    pub fn is_healthy(&self) -> bool {
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
/// [`crate::error::Kind::Hypervisor`] when libvirt cannot be asked; a damaged cluster is no error
/// but [`HostState::Broken`].
pub fn status(store: &Store, name: &ProfileName, deep: bool) -> Result<Status> {
    let dir = store.profile_dir(name);
    if !dir.root().exists() {
        return Ok(Status::nothing(name));
    }
    let access = match Profile::load(&dir) {
        Ok(Some(profile)) => Access { profile, dir },
        Ok(None) => return Ok(Status::broken(name, "its profile file is missing".into())),
        Err(e) => return Ok(Status::broken(name, e.message().to_owned())),
    };
    let profile = &access.profile;
    let hypervisor = Libvirt::open(&profile.connect)?;
    let (host, reason) = host_state(store, profile, &hypervisor)?;
    let (kubeconfig, current_context) = kubeconfig_state(&access, store);
    let (apiserver, kubelet) = if host == HostState::Running && deep {
        components(&access)
    } else {
        (ComponentState::Stopped, ComponentState::Stopped)
    };
    let certificates = certs::look(&access)?;
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
        kubernetes_version: Some(profile.kubernetes_version.clone()),
        server: Some(profile.server()),
        reason,
        ..Status::nothing(name)
    })
}

fn host_state(
    store: &Store,
    profile: &Profile,
    hypervisor: &dyn Hypervisor,
) -> Result<(HostState, Option<String>)> {
    let names = Names::new(store, profile);
    let broken = |why: String| (HostState::Broken, Some(why));
    let dir = store.profile_dir(&profile.name);
    let off = if dir.suspended().exists() {
        HostState::Suspended
    } else {
        HostState::Stopped
    };
    let Some(domain) = hypervisor.find(&names.domain)? else {
        // A copy of another cluster gets its machine at its first start.
        if dir.handover().exists() && Volumes::of(hypervisor, &names.pool)?.has(&names.disk) {
            return Ok((off, None));
        }
        return Ok(broken(
            "its virtual machine is not defined in libvirt".into(),
        ));
    };
    if domain.uuid != profile.uuid()? {
        return Ok(broken(format!(
            "the domain `{}` in libvirt is not kubby's",
            names.domain
        )));
    }
    Ok(match domain.state {
        State::Running => (HostState::Running, None),
        State::Paused => (HostState::Paused, domain.reason),
        State::Crashed => broken(format!(
            "its virtual machine crashed ({})",
            domain
                .reason
                .as_deref()
                .unwrap_or("libvirt does not say why")
        )),
        _ => {
            let volumes = Volumes::of(hypervisor, &names.pool)?;
            if !volumes.has(&names.disk) {
                return Ok(broken("its disk is missing".into()));
            }
            (off, None)
        }
    })
}

fn kubeconfig_state(access: &Access, store: &Store) -> (KubeconfigState, bool) {
    let expected = crate::cluster::context::expected(access, store);
    let text = std::fs::read_to_string(&access.profile.kubeconfig).ok();
    let found = expected.and_then(|entry| kubeconfig::inspect(text.as_deref(), &entry));
    match found {
        Ok(found) if found.state == kubeconfig::State::Configured => {
            (KubeconfigState::Configured, found.current)
        }
        Ok(found) => (KubeconfigState::Misconfigured, found.current),
        Err(_) => (KubeconfigState::Misconfigured, false),
    }
}

/// Asks kube-apiserver, and through it the kubelet; only without it goes over SSH.
fn components(access: &Access) -> (ComponentState, ComponentState) {
    let Ok(api) = access.api() else {
        return (ComponentState::Error, ComponentState::Error);
    };
    match api.ready() {
        Ok(()) => {
            let kubelet = match api.kubelet_healthy(NODE_NAME) {
                Ok(true) => ComponentState::Running,
                _ => unit_state(access, "kubelet.service"),
            };
            (ComponentState::Running, kubelet)
        }
        Err(_) => (
            unit_state(access, "kube-apiserver.service"),
            unit_state(access, "kubelet.service"),
        ),
    }
}

/// A unit that runs is in error here: it did not answer when it was asked.
fn unit_state(access: &Access, unit: &str) -> ComponentState {
    let limit = access.deadline(Duration::from_secs(1));
    let output = access
        .target()
        .and_then(|target| Ssh::connect(&target, limit))
        .and_then(|mut ssh| ssh.run(&format!("systemctl is-active {unit}")));
    match output {
        Ok(output) if output.stdout.starts_with(b"active") => {
            if unit == "kubelet.service" {
                ComponentState::Running
            } else {
                ComponentState::Error
            }
        }
        Ok(_) => ComponentState::Stopped,
        Err(_) => ComponentState::Error,
    }
}
