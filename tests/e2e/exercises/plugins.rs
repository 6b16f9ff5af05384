//! Network plugins of the user's: one more in kubby's chain, a broken one, and one in place of kubby's.

use base64::Engine as _;
use serde_json::{Value, json};

use super::images::{BUSYBOX, write_busybox};
use super::{LIMIT, get, wait_for};
use crate::env::Env;
use crate::group::Test;
use crate::program::{Run, eventually};

pub const TESTS: &[Test] = tests![a_chained_plugin_stays, a_broken_plugin_is_named,];

/// A test with a cluster of its own, which boots faster where no other one runs.
pub const ALONE: &[Test] = tests![another_network_takes_the_place];

const OURS: &str = "/etc/cni/net.d/10-kubby.conflist";

fn node(env: &Env, command: &str) -> Run {
    env.kubby(&["ssh", "--", command]).ok()
}

/// A plugin that adds itself to the list of another, as Istio's does, stays there over `start`. A list that is gone
/// comes back.
fn a_chained_plugin_stays(env: &Env) {
    env.ensure_cluster();
    let mut list: Value = node(env, &format!("cat {OURS}")).json();
    let plugins = list["plugins"].as_array_mut().expect("plugins");
    plugins.push(json!({"type": "tuning", "sysctl": {"net.core.somaxconn": "517"}}));
    let text = base64::engine::general_purpose::STANDARD.encode(list.to_string());
    node(env, &format!("echo {text} | base64 -d > {OURS}"));
    env.kubby(&["start"]).ok();
    node(env, &format!("cat {OURS}")).prints("somaxconn");
    node(env, &format!("rm {OURS}"));
    env.kubby(&["start"]).ok();
    let again: Value = node(env, &format!("cat {OURS}")).json();
    assert_eq!(again["plugins"].as_array().expect("plugins").len(), 2);
}

/// `start` names the file that containerd cannot read.
fn a_broken_plugin_is_named(env: &Env) {
    env.ensure_cluster();
    let bad = "/etc/cni/net.d/00-bad.conflist";
    node(env, &format!("echo '{{\"plugins\": [' > {bad}"));
    node(env, "systemctl restart containerd");
    eventually(LIMIT, "the node is not Ready", || {
        let nodes = env.kubectl(&["get", "nodes"]).ok().stdout;
        nodes.contains("NotReady").then_some(()).ok_or(nodes)
    });
    env.kubby(&["start", "--timeout", "15"])
        .exits(14)
        .says("00-bad.conflist");
    node(env, &format!("rm {bad}; systemctl restart containerd"));
    env.kubby(&["start"]).ok();
}

/// A plugin as an installer brings it: a pod of the node's own network writes its list.
const PLUGIN: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: own-network, namespace: kube-system}
spec:
  selector: {matchLabels: {app: own-network}}
  template:
    metadata: {labels: {app: own-network}}
    spec:
      hostNetwork: true
      tolerations: [{operator: Exists}]
      terminationGracePeriodSeconds: 1
      volumes: [{name: lists, hostPath: {path: /etc/cni/net.d}}]
      containers:
      - name: install
        image: BUSYBOX
        volumeMounts: [{name: lists, mountPath: /lists}]
        command:
        - sh
        - -c
        - |
          echo '{"cniVersion": "1.0.0", "name": "own", "plugins": [{"type": "ptp", "ipMasq": false, "ipam": {
            "type": "host-local", "ranges": [[{"subnet": "10.244.0.0/24", "rangeStart": "10.244.0.200"}]],
            "routes": [{"dst": "0.0.0.0/0"}]}}]}' > /lists/05-own.conflist
          exec sleep 100000
"#;

/// A cluster without a network of pods is there, and says so; all runs as soon as an add-on brings one.
fn another_network_takes_the_place(env: &Env) {
    let own = env.beside("own-network");
    own.kubby(&["start", "--cni", "calico"])
        .exits(2)
        .says("neither");
    let start = own.kubby(&["start", "--cni", "none"]).ok();
    note!("without a network: {:.1} s", start.took.as_secs_f64());
    start.says("nothing gives pods a network yet");
    assert_eq!(node(&own, "ls -A /etc/cni/net.d").stdout, "");
    own.kubby(&["start", "--cni", "bridge"])
        .exits(2)
        .says("cannot be changed");
    let folder = own.root().join("own-network");
    std::fs::create_dir_all(folder.join("images")).expect("a folder");
    std::fs::write(
        folder.join("plugin.yaml"),
        PLUGIN.replace("BUSYBOX", BUSYBOX),
    )
    .expect("the manifest");
    write_busybox(&folder.join("images/busybox.tar"));
    let folder = folder.to_string_lossy().into_owned();
    own.kubby(&["addon", "enable", &folder]).ok();
    let dns = ["-n", "kube-system", "deployment/coredns"];
    wait_for(&own, "condition=Available", &dns);
    let pods = ["pods", "-n", "kube-system", "-l", "k8s-app=kube-dns"];
    let ip = get(&own, &pods, "{.items[0].status.podIP}");
    assert!(ip.starts_with("10.244.0.2"), "{ip}");
    own.kubby(&["start"]).ok();
    assert_eq!(
        node(&own, "ls -A /etc/cni/net.d").stdout,
        "05-own.conflist\n"
    );
    own.kubby(&["delete"]).ok();
}
