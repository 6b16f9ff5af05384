//! The status of a Node object.

use serde_json::Value;

use super::answer::items;

/// The label by which kubectl shows the role `control-plane`.
pub(crate) const CONTROL_PLANE_LABEL: &str = "node-role.kubernetes.io/control-plane";

/// The parts of a Node object that kubby uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// Whether the condition `Ready` is `True`.
    pub ready: bool,
    /// The reason and message of the condition `Ready`.
    pub reason: String,
    /// The kubelet's version with `v`.
    pub kubelet_version: String,
    /// Whether it has the role label `control-plane`.
    pub control_plane: bool,
}

impl NodeStatus {
    /// Reads a Node object.
    pub(super) fn of(node: &Value) -> Self {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let mut conditions = items(&node["status"]["conditions"]);
        let ready = conditions.find(|c| c["type"] == "Ready");
        let labels = &node["metadata"]["labels"];
        NodeStatus {
            ready: ready.is_some_and(|c| c["status"] == "True"),
            reason: ready.map_or_else(
                || "no condition reported yet".to_owned(),
                |c| format!("{}: {}", text(&c["reason"]), text(&c["message"])),
            ),
            kubelet_version: text(&node["status"]["nodeInfo"]["kubeletVersion"]),
            control_plane: labels.get(CONTROL_PLANE_LABEL).is_some(),
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
        assert!(node.control_plane);
        assert_eq!(node.reason, "KubeletNotReady: cni");
        assert_eq!(node.kubelet_version, "v1.37.2");
    }

    #[test]
    fn a_fresh_node_is_not_ready() {
        let node = NodeStatus::of(&json!({}));
        assert!(!node.ready && !node.control_plane);
    }
}
