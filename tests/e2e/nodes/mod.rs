//! Clusters of several nodes: workers join, and pods reach each other across nodes.

pub mod changes;
pub mod links;
pub mod saved;

use crate::bundle::Unpacked;
use crate::env::Env;
use crate::exercises::{self, LIMIT, exec, get, rolled_out};
use crate::group::Test;
use crate::program::{Run, eventually};

pub const TESTS: &[Test] = tests![
    workers_are_ready,
    pods_answer_across_nodes,
    what_runs_elsewhere_is_reached,
    a_bundle_has_all_nodes,
];

/// A pod on each node, with a name of its own in the cluster's DNS.
const SPREAD: &str = "
apiVersion: v1
kind: Service
metadata: {name: spread}
spec: {clusterIP: None, selector: {app: spread}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {type: NodePort, selector: {app: spread}, ports: [{port: 80, nodePort: 30080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: spread}
spec:
  serviceName: spread
  replicas: 3
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: spread}}
  template:
    metadata: {labels: {app: spread}}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: spread}}}
      containers:
      - name: web
        image: BUSYBOX
        command: [sh, -c, 'mkdir /tmp/www; hostname > /tmp/www/index.html; exec httpd -f -h /tmp/www']
        readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 2}
";

/// The name of the Service of [`SPREAD`]'s pods.
const FRONT: &str = "front.default.svc.cluster.local";

fn cluster(env: &Env) {
    env.once("nodes", || {
        let start = ["start", "--workers", "2", "--memory", "3GiB", "-o", "json"];
        let start = env.kubby(&start).ok();
        note!(
            "a control plane and two workers: {:.1} s",
            start.took.as_secs_f64()
        );
    });
}

fn spread(env: &Env) {
    cluster(env);
    env.once("spread", || {
        exercises::apply_busybox(env, "spread", SPREAD);
        rolled_out(env, "statefulset/spread");
    });
}

fn ready(env: &Env, node: &str) -> String {
    let path = "{.status.conditions[?(@.type=='Ready')].status}";
    get(env, &["node", node], path)
}

/// Waits until Kubernetes sees that it has lost a node.
fn not_ready(env: &Env, node: &str) {
    eventually(LIMIT, "the node is not ready", || {
        match ready(env, node).as_str() {
            "True" => Err("still ready"),
            _ => Ok(()),
        }
    });
}

fn workers_are_ready(env: &Env) {
    cluster(env);
    let nodes = env.kubectl(&["get", "nodes", "--no-headers"]).ok().stdout;
    let rows: Vec<Vec<&str>> = nodes
        .lines()
        .map(|l| l.split_whitespace().take(3).collect())
        .collect();
    assert_eq!(
        rows,
        [
            ["kubby", "Ready", "control-plane"],
            ["worker-1", "Ready", "worker"],
            ["worker-2", "Ready", "worker"]
        ]
    );
    let pods =
        "{range .items[*]}{.metadata.name} {.spec.podCIDR} {.status.addresses[0].address};{end}";
    let pods = get(env, &["nodes"], pods);
    let wanted = "kubby 10.244.0.0/24 10.245.0.1;worker-1 10.244.1.0/24 10.245.0.2;worker-2 10.244.2.0/24 10.245.0.3;";
    assert_eq!(pods, wanted);
    let status = env.kubby(&["status"]).ok();
    status.prints("worker-2\ntype: Worker\nhost: Running\nkubelet: Running");
    let list = env.kubby(&["node", "list", "-o", "json"]).ok().json();
    assert_eq!(list["nodes"].as_array().expect("nodes").len(), 3);
    env.kubby(&["ssh", "--node", "worker-1", "--", "hostname"])
        .ok()
        .prints("worker-1");
    env.kubby(&["ssh", "--node", "worker-9", "--", "true"])
        .exits(15)
        .says("worker-2");
}

/// Returns the pages that a pod gets from DNS names. The static busybox ends with a segmentation fault in
/// `wget -T` and where wget looks up a name. A name that has no address is asked for again: a pod whose node was
/// stopped for long is not ready for a moment, and a headless Service names only those that are.
fn pages(env: &Env, pod: &str, names: &[&str]) -> Vec<String> {
    let get = "for name; do
            address=
            for again in 1 2 3 4 5 6; do
                answer=$(nslookup \"$name\" 2>&1)
                address=$(echo \"$answer\" | sed -n 's/^Address: *\\([0-9.]*\\)$/\\1/p' | tail -n 1)
                [ -z \"$address\" ] || break
                echo \"$name: $answer\" >&2
                sleep 2
            done
            timeout 20 wget -qO- \"http://$address/\" || exit
        done";
    let exec = ["exec", pod, "--", "sh", "-c", get, "sh"];
    let run = env.kubectl(&[&exec, names].concat());
    if !run.stderr.is_empty() {
        note!("{pod}: {}", run.stderr);
    }
    if run.code != 0 {
        for node in ["kubby", "worker-1", "worker-2"] {
            let links = "wg show nodes | grep -v key; cat /etc/kubby/link-sources.nft; uptime";
            let links = on(env, node, links).stdout;
            note!("{node}: {links}");
        }
    }
    run.ok().stdout.lines().map(str::to_owned).collect()
}

/// Each pod gets each other's name by its DNS name, and one of them by that of a Service.
fn pods_answer_across_nodes(env: &Env) {
    spread(env);
    let nodes = get(
        env,
        &["pods", "-l", "app=spread"],
        "{.items[*].spec.nodeName}",
    );
    let mut nodes: Vec<&str> = nodes.split(' ').collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["kubby", "worker-1", "worker-2"]);
    let names = [0, 1, 2].map(dns_name);
    let [first, second, third] = names.each_ref().map(String::as_str);
    let names = [first, second, third, FRONT];
    for from in 0..3 {
        let says = pages(env, &format!("spread-{from}"), &names);
        assert_eq!(
            says[..3],
            ["spread-0", "spread-1", "spread-2"],
            "from spread-{from}"
        );
        assert!(says[3].starts_with("spread-"), "{says:?}");
    }
}

fn dns_name(pod: usize) -> String {
    format!("spread-{pod}.spread.default.svc.cluster.local")
}

/// Checks each of the three links between nodes, and the Service on each node: each pod gets the name of the next one,
/// and that of any.
fn pods_still_answer(env: &Env) {
    for from in 0..3 {
        let next = (from + 1) % 3;
        let says = pages(env, &format!("spread-{from}"), &[&dns_name(next), FRONT]);
        assert_eq!(says[0], format!("spread-{next}"), "from spread-{from}");
        assert!(says[1].starts_with("spread-"), "{says:?}");
    }
}

/// Logs, exec, port-forward, NodePorts and Services of pods on another node than the first.
fn what_runs_elsewhere_is_reached(env: &Env) {
    spread(env);
    for pod in 0..3 {
        let pod = format!("spread-{pod}");
        env.kubectl(&["logs", &pod]).ok();
        assert_eq!(exec(env, &pod, &["hostname"]).trim(), pod);
    }
    for node in ["kubby", "worker-1", "worker-2"] {
        let url = "http://127.0.0.1:30080/";
        let ssh = ["ssh", "--node", node, "--", "curl", "-sS", "-m", "20", url];
        let says = env.kubby(&ssh).ok().stdout;
        assert!(says.starts_with("spread-"), "{node}: {says}");
        let api = [
            "ssh",
            "--node",
            node,
            "--",
            "curl",
            "-skm",
            "20",
            "https://127.0.0.1:6443/readyz",
        ];
        assert_eq!(env.kubby(&api).ok().stdout, "ok", "{node}");
    }
}

fn a_bundle_has_all_nodes(env: &Env) {
    cluster(env);
    let file = env.root().join("bundle.tar.gz");
    let bundle = ["logs", "--bundle", file.to_str().expect("a path")];
    env.kubby(&bundle).ok();
    let bundle = Unpacked::of(&file);
    for node in ["node", "nodes/worker-1", "nodes/worker-2"] {
        let journal = bundle.text(&format!("{node}/journal-kubelet.txt"));
        assert!(journal.contains("kubelet["), "{node}: {journal}");
    }
    bundle.text("nodes/worker-1/domain.xml");
    let keys = ["link.key", "nodes/worker-1/link.key"];
    let own = env.home().join("profiles").join(&env.profile);
    for key in keys {
        let key = std::fs::read_to_string(own.join(key)).expect("a key");
        for (name, text) in bundle.all() {
            assert!(!text.contains(key.trim()), "{name} has a link's key");
        }
    }
}

/// Runs a script as root on a node.
pub fn on(env: &Env, node: &str, script: &str) -> Run {
    env.kubby(&["ssh", "--node", node, "--", script])
}
