//! Nodes come and go: one is lost and comes back, one is added and deleted, all of them boot again.

use super::{not_ready, on, pods_still_answer, ready, spread};
use crate::env::Env;
use crate::exercises::{self, LIMIT, get, rolled_out};
use crate::group::Test;
use crate::program::eventually;

pub const TESTS: &[Test] = tests![
    a_node_that_is_off_comes_back,
    a_worker_is_added_and_one_deleted,
];

/// Two pods of a Service, one of them on the new worker, that end without losing requests; and one that asks
/// them all the time.
const LOAD: &str = "
apiVersion: v1
kind: Service
metadata: {name: pair}
spec: {clusterIP: 10.96.7.7, selector: {app: pair}, ports: [{port: 80}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: pair}
spec: {minAvailable: 1, selector: {matchLabels: {app: pair}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: pair}
spec:
  replicas: 2
  selector: {matchLabels: {app: pair}}
  template:
    metadata: {labels: {app: pair}}
    spec:
      affinity:
        nodeAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
          - weight: 100
            preference: {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [worker-3]}]}
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: pair}}}
      containers:
      - name: web
        image: BUSYBOX
        command: [sh, -c, 'mkdir /tmp/www; hostname > /tmp/www/index.html; exec httpd -f -h /tmp/www']
        readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 2}
        lifecycle: {preStop: {sleep: {seconds: 15}}}
---
apiVersion: v1
kind: Pod
metadata: {name: asker}
spec:
  nodeName: kubby
  terminationGracePeriodSeconds: 1
  containers:
  - name: ask
    image: BUSYBOX
    command:
    - sh
    - -c
    - |
      ask() { timeout 10 wget -qO- http://10.96.7.7/ 2>&1; }
      # The rules of a new Service reach the nodes some time after its pods are ready.
      until ask; do sleep 0.5; done
      echo begin
      while true; do ask || echo failed; sleep 0.1; done
";

/// Five replicas over three nodes, which move within seconds after their node is lost: Kubernetes' own five
/// minutes would only make the test longer.
const FIVE: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: five}
spec:
  replicas: 5
  selector: {matchLabels: {app: five}}
  template:
    metadata: {labels: {app: five}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations:
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 5}
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 5}
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: five}}}
      containers:
      - {name: sleep, image: BUSYBOX, command: [sleep, infinity]}
";

/// Returns the nodes on which the replicas of [`FIVE`] are that run and are not about to end.
fn fives(env: &Env) -> Vec<String> {
    let pods = env.kubectl(&["get", "pods", "-l", "app=five", "-o", "json"]);
    let pods = pods.ok().json();
    let pods = pods["items"].as_array().expect("pods").iter();
    let runs = pods.filter(|pod| {
        let ends = &pod["metadata"]["deletionTimestamp"];
        ends.is_null() && pod["status"]["phase"] == "Running"
    });
    let node = |pod: &serde_json::Value| pod["spec"]["nodeName"].as_str().map(str::to_owned);
    let mut nodes: Vec<String> = runs.filter_map(node).collect();
    nodes.sort_unstable();
    nodes
}

fn a_node_that_is_off_comes_back(env: &Env) {
    spread(env);
    let five = exercises::apply_busybox(env, "five", FIVE);
    rolled_out(env, "deployment/five");
    let before = fives(env);
    assert!(before.contains(&"worker-2".to_owned()), "{before:?}");
    // A machine that loses its power loses what it has not written yet, an image among it.
    on(env, "worker-2", "sync").ok();
    env.kubby(&["node", "stop", "worker-2", "--force"]).ok();
    not_ready(env, "worker-2");
    let status = env.kubby(&["status", "-o", "json"]).ok().json();
    assert_eq!(status["host"], "Stopped");
    assert_eq!(status["nodes"][2]["host"], "Stopped");
    assert_eq!(status["nodes"][0]["host"], "Running");
    eventually(LIMIT, "five replicas on two nodes", || {
        let nodes = fives(env);
        match nodes.len() == 5 && !nodes.contains(&"worker-2".to_owned()) {
            true => Ok(()),
            false => Err(nodes),
        }
    });
    exercises::delete(env, &five);
    let start = env.kubby(&["node", "start", "worker-2"]).ok();
    note!("a worker boots again: {:.1} s", start.took.as_secs_f64());
    assert_eq!(ready(env, "worker-2"), "True");
    rolled_out(env, "statefulset/spread");
    pods_still_answer(env);
}

fn a_worker_is_added_and_one_deleted(env: &Env) {
    spread(env);
    let added = env.kubby(&["node", "add"]).ok();
    note!("node add: {:.1} s", added.took.as_secs_f64());
    assert_eq!(added.stdout, "worker-3\n");
    assert_eq!(ready(env, "worker-3"), "True");
    let added = added.says("Start from the warm template");
    let added = added.says("Copy the images to the other nodes");
    assert!(
        !added.stderr.contains("may lack images"),
        "{}",
        added.stderr
    );
    env.kubby(&["start", "--workers", "1"])
        .exits(2)
        .says("node delete");
    env.kubby(&["node", "delete", "kubby"])
        .exits(2)
        .says("only control plane");
    // What was loaded before it was there.
    let images = on(env, "worker-3", "crictl images").ok();
    images.prints("docker.io/library/busybox");
    let load = exercises::apply_busybox(env, "pair", LOAD);
    rolled_out(env, "deployment/pair");
    let there = get(
        env,
        &["pods", "-l", "app=pair"],
        "{.items[*].spec.nodeName}",
    );
    assert!(there.contains("worker-3"), "{there}");
    exercises::wait_for(env, "condition=Ready", &["pod/asker"]);
    eventually(LIMIT, "the Service answers", || {
        let log = env.kubectl(&["logs", "asker"]).ok().stdout;
        log.contains("begin").then_some(()).ok_or(log)
    });
    let deleted = env.kubby(&["node", "delete", "worker-3"]).ok();
    note!("node delete: {:.1} s", deleted.took.as_secs_f64());
    rolled_out(env, "deployment/pair");
    let log = env.kubectl(&["logs", "asker", "--timestamps"]).ok().stdout;
    let (_, log) = log.split_once("begin\n").expect("requests");
    let (asked, failed) = (log.lines().count(), log.matches("failed").count());
    note!("{asked} requests, {failed} failed");
    assert!(
        asked > 20 && failed == 0,
        "{failed} of {asked} requests failed: {log}"
    );
    exercises::delete(env, &load);
    env.kubectl(&["get", "node", "worker-3"]).exits(1);
    let domain = format!("{}.worker-3", env.domain());
    env.virsh(&["dominfo", &domain]).exits(1);
    pods_still_answer(env);
}
