//! The status of a Node object.

use serde_json::Value;

use super::answer::items;
use crate::role::Role;

/// Returns the label by which kubectl shows a node's role.
pub(crate) fn role_label(role: Role) -> String {
    format!("node-role.kubernetes.io/{}", role.name())
}

/// The parts of a Node object that kubby uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// Whether the condition `Ready` is `True`.
    pub ready: bool,
    /// The reason and message of the condition `Ready`.
    pub reason: String,
    /// The kubelet's version with `v`.
    pub kubelet_version: String,
    /// The names of its labels.
    pub labels: Vec<String>,
    /// The addresses of its pods, once it has some.
    pub pods: Option<String>,
}

impl NodeStatus {
    /// Reads a Node object.
    pub(super) fn of(node: &Value) -> Self {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let mut conditions = items(&node["status"]["conditions"]);
        let ready = conditions.find(|c| c["type"] == "Ready");
        let labels = node["metadata"]["labels"].as_object();
        NodeStatus {
            ready: ready.is_some_and(|c| c["status"] == "True"),
            reason: ready.map_or_else(
                || "no condition reported yet".to_owned(),
                |c| format!("{}: {}", text(&c["reason"]), text(&c["message"])),
            ),
            kubelet_version: text(&node["status"]["nodeInfo"]["kubeletVersion"]),
            labels: labels
                .into_iter()
                .flatten()
                .map(|(name, _)| name.clone())
                .collect(),
            pods: node["spec"]["podCIDR"].as_str().map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_is_read() {
        let node = NodeStatus::of(&json!({
            "metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}},
            "status": {
                "conditions": [
                    {"type": "MemoryPressure", "status": "False"},
                    {"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": "cni"},
                ],
                "nodeInfo": {"kubeletVersion": "v1.37.2"},
            },
        }));
        assert!(!node.ready);
        assert_eq!(node.labels, [role_label(Role::ControlPlane)]);
        assert_eq!(node.reason, "KubeletNotReady: cni");
        assert_eq!(node.kubelet_version, "v1.37.2");
    }

    #[test]
    fn a_fresh_node_is_not_ready() {
        let node = NodeStatus::of(&json!({}));
        assert!(!node.ready && node.labels.is_empty() && node.pods.is_none());
    }
}
