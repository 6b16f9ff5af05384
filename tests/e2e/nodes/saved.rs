//! Saved states of clusters with several nodes, and copies of them.

use std::collections::BTreeSet;

use super::{cluster, on, pods_still_answer, spread};
use crate::env::Env;
use crate::exercises::{self, LIMIT};
use crate::group::Test;
use crate::program::eventually;

pub const TESTS: &[Test] = tests![
    saved_states_have_all_nodes,
    the_next_cluster_is_a_copy,
    templates_are_used_elsewhere,
];

/// Writes numbers to a volume on a worker's disk, one after the other, and acknowledges each on its output when
/// it is on the disk.
const WRITER: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: rows}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 16Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: writer}
spec:
  nodeSelector: {kubernetes.io/hostname: worker-2}
  terminationGracePeriodSeconds: 1
  containers:
  - name: writer
    image: BUSYBOX
    command: [sh, -c, 'i=0; while true; do i=$((i+1)); echo $i >> /rows/all; sync; echo $i; sleep 0.5; done']
    volumeMounts: [{name: rows, mountPath: /rows}]
  volumes: [{name: rows, persistentVolumeClaim: {claimName: rows}}]
";

/// Checks that all rows up to the last one are there, once; returns its number.
fn rows(env: &Env, profile: &str) -> u64 {
    let read = ["kubectl", "--", "exec", "writer", "--", "cat", "/rows/all"];
    let all = env.kubby_on(profile, &read).ok().stdout;
    let all: Vec<u64> = all
        .lines()
        .map(|row| row.parse().expect("a number"))
        .collect();
    let whole: Vec<u64> = (1..=all.len() as u64).collect();
    assert_eq!(all, whole, "{profile} lacks rows");
    whole.len() as u64
}

/// Checks that each node answers its peers where they are: a fork has their keys for a moment, and must not be
/// taken for one of them.
fn peers_are_their_own(env: &Env) {
    for node in ["kubby", "worker-1", "worker-2"] {
        let lines = |script: &str| -> BTreeSet<String> {
            let lines = on(env, node, script).ok().stdout;
            lines.lines().map(str::to_owned).collect()
        };
        let answered = lines("wg show nodes endpoints | cut -f2");
        let meant = lines("sed -n 's/^Endpoint = //p' /etc/kubby/wireguard.conf");
        assert_eq!(answered, meant, "{node}");
        assert_eq!(meant.len(), 2, "{node}: {meant:?}");
    }
}

/// A snapshot, a suspended cluster and a fork have the machines of all nodes, and are whole.
fn saved_states_have_all_nodes(env: &Env) {
    spread(env);
    let mark = |name: &str| env.kubectl(&["create", "configmap", name]).ok();
    let there = |name: &str, exit: i32| env.kubectl(&["get", "configmap", name]).exits(exit);
    mark("before");
    let saved = env.kubby(&["snapshot", "save", "three"]).ok();
    saved.says("3 machines paused within");
    mark("after");
    env.kubby(&["node", "stop", "worker-1", "--force"]).ok();
    env.kubby(&["snapshot", "restore", "three"]).ok();
    there("before", 0);
    there("after", 1);
    pods_still_answer(env);
    env.kubby(&["suspend"]).ok();
    let status = env.kubby(&["status", "-o", "json"]).json();
    for node in status["nodes"].as_array().expect("nodes") {
        assert_eq!(node["host"], "Suspended", "{status}");
    }
    let resumed = env.kubby(&["resume"]).ok();
    note!("three nodes resume: {:.1} s", resumed.took.as_secs_f64());
    pods_still_answer(env);
    let writer = exercises::apply_busybox(env, "writer", WRITER);
    exercises::wait_for(env, "condition=Ready", &["pod/writer"]);
    let twin = format!("{}-twin", env.profile);
    let mut acknowledged = 0;
    eventually(LIMIT, "rows are written", || {
        let last = env.kubectl(&["logs", "--tail=1", "writer"]).ok().stdout;
        last.trim().parse::<u64>().map(|row| acknowledged = row)
    });
    // Six emulated machines would have to share what may be two processors: a copy that is to catch up beside its
    // source takes minutes. It is made while the source runs, and starts while that stands still.
    let fork = ["fork", &twin, "--no-start"];
    let fork = env.kubby(&fork).ok();
    note!("a fork of three nodes: {:.1} s", fork.took.as_secs_f64());
    let here = rows(env, &env.profile);
    env.kubby(&["pause"]).ok();
    let start = env.kubby_on(&twin, &["start", "--keep-context"]).ok();
    note!("the fork starts: {:.1} s", start.took.as_secs_f64());
    let own = env.kubby_on(&twin, &["kubectl", "--", "delete", "configmap", "before"]);
    own.ok();
    let nodes = ["kubectl", "--", "get", "nodes", "--no-headers"];
    let nodes = env.kubby_on(&twin, &nodes).ok().stdout;
    assert_eq!(nodes.matches(" Ready ").count(), 3, "{nodes}");
    let there_are = rows(env, &twin);
    note!("{acknowledged} rows acknowledged before the fork; {here} here, {there_are} there");
    assert!(acknowledged > 0 && there_are >= acknowledged && here >= acknowledged);
    // Both run: none of them takes the other's nodes for its own.
    env.kubby(&["resume"]).ok();
    there("before", 0);
    peers_are_their_own(env);
    env.kubby_on(&twin, &["delete"]).ok();
    exercises::delete(env, &writer);
    pods_still_answer(env);
    env.kubby(&["snapshot", "delete", "three"]).ok();
}

/// The same shape of cluster again is a copy of all its nodes.
fn the_next_cluster_is_a_copy(env: &Env) {
    cluster(env);
    let next = format!("{}-next", env.profile);
    let start = [
        "start",
        "--workers",
        "2",
        "--memory",
        "3GiB",
        "--keep-context",
        "-o",
        "json",
    ];
    let start = env.kubby_on(&next, &start).ok();
    note!("three nodes, warm: {:.1} s", start.took.as_secs_f64());
    assert_eq!(start.json()["fromTemplate"], true);
    let nodes = ["kubectl", "--", "get", "nodes", "--no-headers"];
    let nodes = env.kubby_on(&next, &nodes).ok().stdout;
    assert_eq!(nodes.matches(" Ready ").count(), 3, "{nodes}");
    let key = |cluster: &str, node: &str| {
        let read = [
            "ssh",
            "--node",
            node,
            "--",
            "wg",
            "show",
            "nodes",
            "public-key",
        ];
        env.kubby_on(cluster, &read).ok().stdout
    };
    assert_ne!(key(&next, "worker-1"), key(&next, "worker-2"));
    assert_ne!(key(&next, "worker-1"), key(&env.profile, "worker-1"));
    env.kubby_on(&next, &["delete"]).ok();
}

/// The templates of three nodes and of a worker are exported to files and imported in another home, where a cluster
/// starts from them and gets one worker more.
fn templates_are_used_elsewhere(env: &Env) {
    cluster(env);
    // Those who are not at work here leave the processors to the others.
    env.kubby(&["pause"]).ok();
    let other = env.elsewhere("other-host");
    let templates = env.kubby(&["template", "list", "-o", "json"]).ok().json();
    let templates = templates["templates"].as_array().expect("templates");
    for (nodes, file) in [(3, "three.tar.zst"), (1, "worker.tar.zst")] {
        let of =
            |row: &&serde_json::Value| row["nodes"].as_array().is_some_and(|n| n.len() == nodes);
        let row = templates.iter().find(of).expect("the template");
        let (key, path) = (row["key"].as_str().expect("a key"), env.root().join(file));
        let path = path.to_str().expect("a path");
        let exported = env.kubby(&["template", "export", key, "--file", path]).ok();
        let imported = other.kubby(&["template", "import", path]).ok();
        let size = std::fs::metadata(path).expect("the file").len() >> 20;
        note!(
            "a template of {nodes} nodes: {size} MiB, export {:.1} s, import {:.1} s",
            exported.took.as_secs_f64(),
            imported.took.as_secs_f64()
        );
        std::fs::remove_file(path).expect("removed");
    }
    let there = other.kubby(&["template", "list", "-o", "json"]).ok().json();
    for row in there["templates"].as_array().expect("templates") {
        assert_eq!(row["problem"], serde_json::Value::Null, "{there}");
    }
    // Domains of two homes have different names.
    let name = format!("{}-there", env.profile);
    let start = ["start", "--workers", "2", "--memory", "3GiB", "-o", "json"];
    let started = other.kubby_on(&name, &start).ok();
    assert_eq!(started.json()["fromTemplate"], true, "{}", started.stderr);
    let added = other.kubby_on(&name, &["node", "add"]).ok();
    added.says("Start from the warm template");
    let nodes = ["kubectl", "--", "get", "nodes", "--no-headers"];
    let nodes = other.kubby_on(&name, &nodes).ok().stdout;
    assert_eq!(nodes.matches(" Ready ").count(), 4, "{nodes}");
    other.kubby_on(&name, &["delete"]).ok();
    other.kubby(&["template", "prune", "--all"]).ok();
    assert!(!other.home().exists());
    env.kubby(&["resume"]).ok();
    pods_still_answer(env);
}
