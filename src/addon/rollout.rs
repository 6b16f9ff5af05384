//! The progress of an add-on's objects, judged as by `kubectl rollout status` and `wait`.

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::api::items;

/// The progress of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is ready, or its kind needs no wait.
    Done,
    /// Not ready yet, with the reason.
    Waiting(String),
    /// It will never be ready, with the reason.
    Failed(String),
}

/// Returns whether objects of a kind need a wait.
pub(super) fn is_waited_for(kind: &str) -> bool {
    matches!(
        kind,
        "Deployment"
            | "DaemonSet"
            | "StatefulSet"
            | "Job"
            | "Pod"
            | "CustomResourceDefinition"
            | "APIService"
    )
}

/// Judges an object of the API.
pub(super) fn judge(object: &Value) -> Progress {
    let status = &object["status"];
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
    let observed = number("observedGeneration") >= generation;
    let updated = number("updatedReplicas");
    let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1);
    let count = |have: i64, want: i64, what: &str| {
        if have >= want {
            Progress::Done
        } else {
            Progress::Waiting(format!("{have} of {want} {what}"))
        }
    };
    match object["kind"].as_str().unwrap_or_default() {
        "Deployment" | "StatefulSet" | "DaemonSet" if !observed => {
            Progress::Waiting("not seen by its controller".into())
        }
        "Deployment" if updated < wanted || number("replicas") > updated => {
            Progress::Waiting(format!("{updated} of {wanted} pods are of this version"))
        }
        "Deployment" => count(number("availableReplicas"), wanted, "pods are available"),
        "StatefulSet" => count(
            updated.min(number("readyReplicas")),
            wanted,
            "pods are ready",
        ),
        // The only node of a new cluster may not exist yet; no add-on has a DaemonSet for no node.
        "DaemonSet" if number("desiredNumberScheduled") == 0 => {
            Progress::Waiting("no node takes its pod".into())
        }
        "DaemonSet" => {
            let ready = number("numberAvailable").min(number("updatedNumberScheduled"));
            count(
                ready,
                number("desiredNumberScheduled"),
                "pods are available",
            )
        }
        "Job" => match (condition(status, "Complete"), condition(status, "Failed")) {
            (Some(("True", _)), _) => Progress::Done,
            (_, Some(("True", why))) => Progress::Failed(why),
            _ => Progress::Waiting("not complete".into()),
        },
        "Pod" if status["phase"] == "Succeeded" => Progress::Done,
        "Pod" if status["phase"] == "Failed" => Progress::Failed("the pod failed".into()),
        "Pod" => needs(status, "Ready"),
        "CustomResourceDefinition" => needs(status, "Established"),
        "APIService" => needs(status, "Available"),
        _ => Progress::Done,
    }
}

fn needs(status: &Value, name: &str) -> Progress {
    match condition(status, name) {
        Some(("True", _)) => Progress::Done,
        Some((_, why)) => Progress::Waiting(format!("not {name}: {why}")),
        None => Progress::Waiting(format!("not {name}")),
    }
}

/// Returns a condition's status, and its reason and message.
fn condition<'a>(status: &'a Value, name: &str) -> Option<(&'a str, String)> {
    let found = items(&status["conditions"]).find(|c| c["type"] == name)?;
    let text = |key: &str| found[key].as_str().unwrap_or_default();
    let why = format!("{} {}", text("reason"), text("message"));
    Some((text("status"), why.trim().to_owned()))
}

/// Judges whether all pods of a PodList that have not ended are ready, and were started after the boot
/// of their node, if that is among `boots`: until the kubelet has checked a pod, the API reports its state
/// before the boot.
pub(super) fn back_since(pods: &Value, boots: &[(String, OffsetDateTime)]) -> Progress {
    for pod in items(&pods["items"]) {
        let metadata = &pod["metadata"];
        let phase = pod["status"]["phase"].as_str();
        let ended = matches!(phase, Some("Succeeded" | "Failed"));
        if ended || !metadata["deletionTimestamp"].is_null() {
            continue;
        }
        let name = metadata["name"].as_str().unwrap_or_default();
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        let booted = boots.iter().find(|(name, _)| name == node);
        let is_of_before = |container: &Value| {
            let began = container["state"]["running"]["startedAt"].as_str();
            let began = began.and_then(|began| OffsetDateTime::parse(began, &Rfc3339).ok());
            let booted = booted.map(|(_, time)| *time);
            began
                .zip(booted)
                .is_some_and(|(began, booted)| began < booted)
        };
        if items(&pod["status"]["containerStatuses"]).any(is_of_before) {
            return Progress::Waiting(format!("pod {name} is not back since the boot"));
        }
        if let Progress::Waiting(why) = needs(&pod["status"], "Ready") {
            return Progress::Waiting(format!("pod {name} is {why}"));
        }
    }
    Progress::Done
}

/// Returns the problems of the pods in a PodList, one line each.
pub(super) fn problems(pods: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for pod in items(&pods["items"]) {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let status = &pod["status"];
        if let Some((answer, why)) = condition(status, "PodScheduled")
            && answer != "True"
        {
            out.push(format!("pod {name}: not scheduled: {why}"));
        }
        for list in ["initContainerStatuses", "containerStatuses"] {
            for container in items(&status[list]) {
                let state = &container["state"];
                for phase in ["waiting", "terminated"] {
                    let Some(reason) = state[phase]["reason"].as_str() else {
                        continue;
                    };
                    if reason == "Completed" || reason == "PodInitializing" {
                        continue;
                    }
                    let message = state[phase]["message"].as_str().unwrap_or_default();
                    let container = container["name"].as_str().unwrap_or_default();
                    let what = format!("pod {name}, container {container}");
                    out.push(format!("{what}: {reason} {message}"));
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn waits(object: Value, why: &str) {
        match judge(&object) {
            Progress::Waiting(text) => assert!(text.contains(why), "{text}"),
            other => panic!("{other:?} for {object}"),
        }
    }

    #[test]
    fn a_deployment_is_done_when_its_new_pods_are_available() {
        let deployment = |observed: u64, updated: u64, all: u64, available: u64| {
            json!({"kind": "Deployment", "metadata": {"generation": 2}, "spec": {"replicas": 2},
                "status": {"observedGeneration": observed, "updatedReplicas": updated,
                    "replicas": all, "availableReplicas": available}})
        };
        assert_eq!(judge(&deployment(2, 2, 2, 2)), Progress::Done);
        waits(deployment(1, 2, 2, 2), "not seen");
        waits(deployment(2, 1, 2, 2), "1 of 2 pods are of this version");
        waits(deployment(2, 2, 3, 3), "of this version");
        waits(deployment(2, 2, 2, 1), "1 of 2 pods are available");
        waits(
            json!({"kind": "Deployment", "metadata": {"generation": 1}}),
            "not seen",
        );
    }

    #[test]
    fn other_workloads_are_judged_by_their_own_status() {
        let set = json!({"kind": "StatefulSet", "metadata": {"generation": 1},
            "status": {"observedGeneration": 1, "updatedReplicas": 1, "readyReplicas": 0}});
        waits(set, "0 of 1");
        let daemons = |wanted: u64, ready: u64| {
            json!({"kind": "DaemonSet", "metadata": {"generation": 1}, "status": {
                "observedGeneration": 1, "desiredNumberScheduled": wanted,
                "updatedNumberScheduled": wanted, "numberAvailable": ready}})
        };
        assert_eq!(judge(&daemons(1, 1)), Progress::Done);
        waits(daemons(1, 0), "0 of 1");
        waits(daemons(0, 0), "no node");
        let job = |name: &str| {
            json!({"kind": "Job", "status": {"conditions": [
            {"type": name, "status": "True", "reason": "BackoffLimitExceeded"}]}})
        };
        assert_eq!(judge(&job("Complete")), Progress::Done);
        assert_eq!(
            judge(&job("Failed")),
            Progress::Failed("BackoffLimitExceeded".into())
        );
        waits(json!({"kind": "Job"}), "not complete");
        waits(
            json!({"kind": "APIService", "status": {"conditions": [
            {"type": "Available", "status": "False", "reason": "MissingEndpoints"}]}}),
            "MissingEndpoints",
        );
        assert_eq!(judge(&json!({"kind": "ConfigMap"})), Progress::Done);
        assert_eq!(
            judge(&json!({"kind": "Pod", "status": {"phase": "Succeeded"}})),
            Progress::Done
        );
    }

    #[test]
    fn problems_of_pods_are_listed() {
        let pods = json!({"items": [{
            "metadata": {"name": "a"},
            "status": {
                "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no memory"}],
                "containerStatuses": [
                    {"name": "c", "state": {"waiting": {"reason": "ErrImagePull", "message": "no such host"}}},
                    {"name": "d", "state": {"running": {}}}]}}]});
        assert_eq!(
            problems(&pods),
            [
                "pod a: not scheduled: Unschedulable no memory",
                "pod a, container c: ErrImagePull no such host",
            ]
        );
    }

    #[test]
    fn pods_of_before_a_boot_do_not_count() {
        let booted = OffsetDateTime::parse("2026-11-02T10:00:05Z", &Rfc3339).unwrap();
        let boots = [("kubby".to_owned(), booted)];
        let pod = |began: &str, ready: &str| {
            json!({"metadata": {"name": "dns-1"}, "spec": {"nodeName": "kubby"}, "status": {"phase": "Running",
                "conditions": [{"type": "Ready", "status": ready, "reason": "Probe"}],
                "containerStatuses": [{"state": {"running": {"startedAt": began}}}]}})
        };
        let judge = |pod: Value| back_since(&json!({"items": [pod]}), &boots);
        let waits = |pod: Value, why: &str| match judge(pod) {
            Progress::Waiting(text) => assert!(text.contains(why), "{text}"),
            other => panic!("{other:?}"),
        };
        assert_eq!(judge(pod("2026-11-02T10:00:30Z", "True")), Progress::Done);
        // As a power loss leaves it.
        waits(
            pod("2026-11-02T10:00:04Z", "True"),
            "not back since the boot",
        );
        waits(
            pod("2026-11-01T23:59:59Z", "True"),
            "not back since the boot",
        );
        // Reported by the kubelet, but not ready again.
        waits(pod("2026-11-02T10:00:30Z", "False"), "not Ready: Probe");
        let mut leaves = pod("2026-11-02T10:00:04Z", "True");
        leaves["metadata"]["deletionTimestamp"] = json!("2026-11-02T10:00:20Z");
        assert_eq!(judge(leaves), Progress::Done);
        let mut ended = pod("2026-11-02T10:00:04Z", "False");
        ended["status"]["phase"] = json!("Failed");
        assert_eq!(judge(ended), Progress::Done);
        let mut begins = pod("2026-11-02T10:00:30Z", "False");
        begins["status"]["phase"] = json!("Pending");
        waits(begins, "not Ready: Probe");
        assert_eq!(back_since(&json!({}), &boots), Progress::Done);
        // Its node has run on.
        let mut elsewhere = pod("2026-11-02T10:00:04Z", "True");
        elsewhere["spec"]["nodeName"] = json!("worker-1");
        assert_eq!(judge(elsewhere), Progress::Done);
    }
}
