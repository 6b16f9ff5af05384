//! The results of `kubby status`.

use serde::Serialize;

use crate::name::ProfileName;
use crate::role::Role;

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
    pub certificates_due: Vec<String>,
    /// The reason why something is not as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Warnings about a cluster that runs, each with the command that changes it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The nodes, the first control plane first.
    pub nodes: Vec<NodeState>,
}

/// The state of one node.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeState {
    /// Its name in Kubernetes.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Its virtual machine.
    pub host: HostState,
    /// Its kubelet.
    pub kubelet: ComponentState,
    /// Its kube-apiserver; a worker has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apiserver: Option<ComponentState>,
    /// The reason why something is not as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl NodeState {
    /// Returns the state of a node in which nothing runs.
    pub(crate) fn off(name: &str, role: Role) -> Self {
        NodeState {
            name: name.to_owned(),
            role,
            host: HostState::Stopped,
            kubelet: ComponentState::Stopped,
            apiserver: (role == Role::ControlPlane).then_some(ComponentState::Stopped),
            reason: None,
        }
    }
}

impl Status {
    /// Everything runs and is configured.
    pub(crate) fn is_healthy(&self) -> bool {
        self.host == HostState::Running
            && self.kubelet == ComponentState::Running
            && self.apiserver == ComponentState::Running
            && self.kubeconfig == KubeconfigState::Configured
    }

    /// Returns the status of no cluster.
    pub(crate) fn nothing(name: &ProfileName) -> Self {
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
            warnings: Vec::new(),
            nodes: Vec::new(),
        }
    }

    pub(super) fn broken(name: &ProfileName, reason: String) -> Self {
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
