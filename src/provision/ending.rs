//! Ending a node's pods before its machine is shut down, as the kubelet ends a pod that is deleted: hooks first,
//! then the signal, then the time that the pod asks for.
//!
//! The kubelet's own graceful shutdown would mark all pods as failed: those of no controller, such as
//! `kubectl run` makes, would never run again, and jobs would count a failure. Here the kubelet is stopped
//! first, and begins the same pods again when the node boots.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use super::wanted::binary;
use crate::api::items;
use crate::remote::quote;

/// The namespace whose pods end with their machine: Kubernetes' own hold nothing.
const SYSTEM: &str = "kube-system";

/// The functions that end a container.
const FUNCTIONS: &str = include_str!("files/end-pods");

/// A pod that runs on a node.
#[derive(Debug)]
pub(crate) struct EndingPod {
    /// Namespace and name.
    pub(crate) name: String,
    /// The seconds that it has from the beginning of its hooks.
    pub(crate) grace: u64,
    containers: Vec<Container>,
    /// Those that end after the others, in the order in which they end.
    sidecars: Vec<Container>,
}

#[derive(Debug)]
struct Container {
    id: String,
    hook: Option<Hook>,
}

/// An action of a container before it gets its signal.
#[derive(Debug, PartialEq, Eq)]
enum Hook {
    Exec(Vec<String>),
    Get { url: String, headers: Vec<String> },
    Sleep(u64),
}

/// The result of [`script`], as the node printed it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The pods that had not ended.
    pub(crate) left: Vec<String>,
    /// The pods with a hook that failed.
    pub(crate) failed_hooks: Vec<String>,
}

/// Returns the pods of an API's list that run on a node and have to end before its machine does.
pub(crate) fn ending_pods(list: &Value, node: &str) -> Vec<EndingPod> {
    let pods = items(&list["items"]).filter(|pod| pod["spec"]["nodeName"] == node);
    let pods = pods.filter(|pod| pod["metadata"]["namespace"] != SYSTEM);
    let pods = pods.map(|pod| EndingPod {
        name: format!(
            "{}/{}",
            text(&pod["metadata"]["namespace"]),
            text(&pod["metadata"]["name"])
        ),
        grace: pod["spec"]["terminationGracePeriodSeconds"]
            .as_u64()
            .unwrap_or(30),
        containers: running(pod, "containers", "containerStatuses", |_| true),
        sidecars: running(pod, "initContainers", "initContainerStatuses", |spec| {
            spec["restartPolicy"] == "Always"
        })
        .into_iter()
        .rev()
        .collect(),
    });
    pods.filter(|pod| !pod.containers.is_empty() || !pod.sidecars.is_empty())
        .collect()
}

/// Returns the running containers of one kind.
fn running(pod: &Value, specs: &str, statuses: &str, which: fn(&Value) -> bool) -> Vec<Container> {
    let specs = items(&pod["spec"][specs]).filter(|spec| which(spec));
    let container = |spec: &Value| {
        let mut statuses = items(&pod["status"][statuses]);
        let status = statuses.find(|status| status["name"] == spec["name"])?;
        status["state"].get("running")?;
        let id = text(&status["containerID"]).strip_prefix("containerd://")?;
        let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then(|| Container {
            id: id.to_owned(),
            hook: hook(pod, spec),
        })
    };
    specs.filter_map(container).collect()
}

fn hook(pod: &Value, spec: &Value) -> Option<Hook> {
    let hook = &spec["lifecycle"]["preStop"];
    if let Some(command) = hook["exec"].get("command") {
        return Some(Hook::Exec(
            items(command).map(|word| text(word).to_owned()).collect(),
        ));
    }
    if let Some(seconds) = hook["sleep"]["seconds"].as_u64() {
        return Some(Hook::Sleep(seconds));
    }
    let get = hook.get("httpGet")?;
    let port = match &get["port"] {
        Value::String(name) => items(&spec["ports"])
            .find(|port| port["name"] == name.as_str())
            .map_or_else(|| name.clone(), |port| port["containerPort"].to_string()),
        number => number.to_string(),
    };
    let scheme = match text(&get["scheme"]) {
        "HTTPS" => "https",
        _ => "http",
    };
    let host = match text(&get["host"]) {
        "" => text(&pod["status"]["podIP"]),
        host => host,
    };
    let path = text(&get["path"]).trim_start_matches('/');
    let header = |header: &Value| format!("{}: {}", text(&header["name"]), text(&header["value"]));
    Some(Hook::Get {
        url: format!("{scheme}://{host}:{port}/{path}"),
        headers: items(&get["httpHeaders"]).map(header).collect(),
    })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Returns the shell script that ends pods at the same time, and prints a line about each. It stops the kubelet
/// first, and is itself to be stopped when the time is over.
pub(crate) fn script(pods: &[EndingPod]) -> String {
    let mut script = FUNCTIONS.replace("@CRICTL@", &binary("crictl"));
    for pod in pods {
        let _ = writeln!(
            script,
            "( pod={} end=$(($(date +%s) + {}))",
            quote(&pod.name),
            pod.grace
        );
        for container in &pod.containers {
            let _ = writeln!(script, "( {} ) &", container.end(pod.grace));
        }
        script.push_str("wait\n");
        for container in &pod.sidecars {
            let _ = writeln!(script, "{}", container.end(pod.grace));
        }
        script.push_str("echo \"ended $pod\" ) &\n");
    }
    script.push_str("wait\n");
    script
}

impl Container {
    /// Returns the command that ends it.
    fn end(&self, grace: u64) -> String {
        let hook = match &self.hook {
            None => String::new(),
            Some(Hook::Exec(command)) => {
                let words: String = command
                    .iter()
                    .map(|word| format!(" {}", quote(word)))
                    .collect();
                format!("hook exec_in {}{words}; ", self.id)
            }
            Some(Hook::Sleep(seconds)) => format!("hook sleep {}; ", (*seconds).min(grace)),
            Some(Hook::Get { url, headers }) => {
                let headers = headers.iter();
                let headers: String = headers.map(|line| format!("-H {} ", quote(line))).collect();
                format!("hook curl -sk -o /dev/null {headers}{}; ", quote(url))
            }
        };
        format!("{hook}stop {}", self.id)
    }
}

/// Reads what the script printed before it ended, or was ended.
pub(crate) fn ended(pods: &[EndingPod], printed: &str) -> Ended {
    let has = |word: &str, pod: &EndingPod| {
        let line = format!("{word} {}", pod.name);
        printed.lines().any(|printed| printed == line)
    };
    let names = |which: &dyn Fn(&EndingPod) -> bool| {
        let pods = pods.iter().filter(|pod| which(pod));
        pods.map(|pod| pod.name.clone()).collect()
    };
    Ended {
        left: names(&|pod| !has("ended", pod)),
        failed_hooks: names(&|pod| has("hook-failed", pod)),
    }
}

/// Returns the longest time that one of the pods asks for.
pub(crate) fn longest_grace(pods: &[EndingPod]) -> Duration {
    Duration::from_secs(pods.iter().map(|pod| pod.grace).max().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, namespace: &str, lifecycle: &Value) -> Value {
        json!({
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "nodeName": "kubby",
                "terminationGracePeriodSeconds": 90,
                "initContainers": [
                    {"name": "first", "restartPolicy": "Always"},
                    {"name": "setup"},
                    {"name": "second", "restartPolicy": "Always"},
                ],
                "containers": [
                    {"name": "c", "lifecycle": lifecycle, "ports": [{"name": "web", "containerPort": 8080}]},
                    {"name": "gone"},
                ],
            },
            "status": {
                "podIP": "10.244.0.7",
                "initContainerStatuses": [
                    {"name": "first", "containerID": "containerd://01", "state": {"running": {}}},
                    {"name": "setup", "containerID": "containerd://02", "state": {"terminated": {}}},
                    {"name": "second", "containerID": "containerd://03", "state": {"running": {}}},
                ],
                "containerStatuses": [
                    {"name": "c", "containerID": "containerd://ab", "state": {"running": {}}},
                    {"name": "gone", "containerID": "containerd://cd", "state": {"terminated": {}}},
                ],
            },
        })
    }

    fn commands(lifecycle: &Value) -> String {
        let list = json!({"items": [pod("g-0", "default", lifecycle)]});
        let script = script(&ending_pods(&list, "kubby"));
        script
            .strip_prefix(&FUNCTIONS.replace("@CRICTL@", &binary("crictl")))
            .unwrap()
            .to_owned()
    }

    #[test]
    fn hooks_come_first_and_sidecars_last() {
        let hook = json!({"preStop": {"exec": {"command": ["sh", "-c", "echo 'a' >> /d/log"]}}});
        assert_eq!(
            commands(&hook),
            "( pod=default/g-0 end=$(($(date +%s) + 90))\n\
             ( hook exec_in ab sh -c 'echo '\\''a'\\'' >> /d/log'; stop ab ) &\n\
             wait\nstop 03\nstop 01\necho \"ended $pod\" ) &\nwait\n"
        );
    }

    #[test]
    fn each_kind_of_hook_is_run() {
        let sleep = commands(&json!({"preStop": {"sleep": {"seconds": 500}}}));
        assert!(sleep.contains("hook sleep 90; stop ab"), "{sleep}");
        let get = json!({
            "path": "/bye?a=1&b", "port": "web", "scheme": "HTTPS",
            "httpHeaders": [{"name": "X-A", "value": "it's"}],
        });
        let get = commands(&json!({"preStop": {"httpGet": get}}));
        let line = "hook curl -sk -o /dev/null -H 'X-A: it'\\''s' 'https://10.244.0.7:8080/bye?a=1&b'; stop ab";
        assert!(get.contains(line), "{get}");
        let get = commands(&json!({"preStop": {"httpGet": {"port": 80, "host": "a.b"}}}));
        assert!(get.contains("http://a.b:80/; stop ab"), "{get}");
        let none = commands(&json!({"postStart": {"sleep": {"seconds": 5}}}));
        assert!(none.contains("( stop ab ) &"), "{none}");
    }

    #[test]
    fn only_pods_of_the_node_and_of_people_are_ended() {
        let mut elsewhere = pod("other", "default", &json!({}));
        elsewhere["spec"]["nodeName"] = "worker-1".into();
        let mut damaged = pod("damaged", "default", &json!({}));
        damaged["status"] = json!({"containerStatuses": [
            {"name": "c", "containerID": "containerd://$(reboot)", "state": {"running": {}}},
        ]});
        let system = pod("coredns", SYSTEM, &json!({}));
        let list =
            json!({"items": [elsewhere, damaged, system, pod("g-0", "default", &json!({}))]});
        let pods = ending_pods(&list, "kubby");
        let names: Vec<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
        assert_eq!(names, ["default/g-0"]);
        assert_eq!(longest_grace(&pods), Duration::from_secs(90));
        assert!(ending_pods(&json!({}), "kubby").is_empty());
    }

    #[test]
    fn what_was_not_printed_has_not_ended() {
        let list = json!({"items": [
            pod("a", "default", &json!({})), pod("b", "default", &json!({})),
        ]});
        let pods = ending_pods(&list, "kubby");
        let result = ended(&pods, "hook-failed default/b\nended default/b\n");
        assert_eq!(result.left, ["default/a"]);
        assert_eq!(result.failed_hooks, ["default/b"]);
    }
}
