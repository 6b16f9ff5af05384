//! Clusters with several control planes: they join, each of them dies, and the cluster goes on.

mod dying;
mod fewer;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::env::Env;
use crate::exercises::{self, LIMIT};
use crate::group::Test;
use crate::nodes::on;
use crate::program::eventually;

pub const TESTS: &[&[Test]] = &[JOINED, dying::TESTS, fewer::TESTS];

const JOINED: &[Test] = tests![
    a_cluster_gets_two_more,
    members_keep_others_out,
    the_endpoint_is_kept,
];

/// The control planes, in their order.
const ALL: [&str; 3] = ["kubby", "control-plane-2", "control-plane-3"];

/// Makes a cluster of one node one of three control planes.
fn cluster(env: &Env) {
    env.once("control planes", || {
        env.ensure_cluster();
        let add = env.kubby(&["node", "add", "--control-planes", "2"]).ok();
        note!("two more control planes: {:.1} s", add.took.as_secs_f64());
        assert_eq!(add.stdout, "control-plane-2\ncontrol-plane-3\n");
    });
}

/// Returns etcd's members: the names of those with a vote.
fn voters(env: &Env) -> BTreeSet<String> {
    let list = "etcdctl --endpoints=unix:///run/etcd/etcd.sock member list -w json";
    let list: Value = on(env, "kubby", list).ok().json();
    let members = list["members"].as_array().expect("members").iter();
    let voters = members.filter(|member| member["isLearner"] != true);
    let name = |member: &Value| member["name"].as_str().expect("a name").to_owned();
    voters.map(name).collect()
}

/// Checks that these control planes are all there are, each with a vote and an API of its own.
fn are_whole(env: &Env, names: &[&str]) {
    let names: BTreeSet<&str> = names.iter().copied().collect();
    // Machines that share two processors miss a sign of life at times.
    eventually(LIMIT, "all nodes are Ready", || {
        let nodes = env.kubectl(&["get", "nodes", "--no-headers"]).ok().stdout;
        let ready = nodes.lines().filter_map(|row| {
            let words: Vec<&str> = row.split_whitespace().collect();
            (words[1..3] == ["Ready", "control-plane"]).then(|| words[0])
        });
        (ready.collect::<BTreeSet<_>>() == names)
            .then_some(())
            .ok_or(nodes)
    });
    assert_eq!(
        voters(env)
            .iter()
            .map(String::as_str)
            .collect::<BTreeSet<_>>(),
        names
    );
    for name in names {
        let ready = "curl -sk -m 20 https://127.0.0.1:6443/readyz?exclude=poststarthook/rbac/bootstrap-roles";
        eventually(LIMIT, &format!("the API of {name} is ready"), || {
            let answer = on(env, name, ready).ok().stdout;
            (answer == "ok").then_some(()).ok_or(answer)
        });
    }
}

fn a_cluster_gets_two_more(env: &Env) {
    cluster(env);
    are_whole(env, &ALL);
    // The one of before may be about to end.
    eventually(LIMIT, "two replicas of DNS on two nodes", || {
        let dns = ["pods", "-n", "kube-system", "-l", "k8s-app=kube-dns"];
        let dns = exercises::get(env, &dns, "{.items[*].spec.nodeName}");
        let nodes: Vec<&str> = dns.split(' ').collect();
        let is_spread = nodes.len() == 2 && nodes[0] != nodes[1];
        is_spread.then_some(()).ok_or(dns)
    });
    eventually(LIMIT, "the status has three control planes", || {
        let status = env.kubby(&["status", "-o", "json"]).ok().json();
        let nodes = status["nodes"].as_array().expect("nodes");
        let runs = |node: &Value| node["apiserver"] == "Running" && node["role"] == "control-plane";
        let all = nodes.len() == 3 && nodes.iter().all(runs);
        all.then_some(()).ok_or(status)
    });
    eventually(LIMIT, "the Service of the API has three servers", || {
        let servers = "{.subsets[0].addresses[*].ip}";
        let servers = exercises::get(env, &["endpoints", "kubernetes"], servers);
        (servers == "10.245.0.1 10.245.0.2 10.245.0.3")
            .then_some(())
            .ok_or(servers)
    });
    env.kubby(&["start", "--control-planes", "2"])
        .exits(2)
        .says("node delete");
    env.kubby(&["start", "--nodes", "2"])
        .exits(2)
        .says("--nodes");
    env.kubby(&["node", "delete", "kubby"])
        .exits(2)
        .says("first control plane");
}

/// Other nodes' etcd answers members with a certificate only, and pods not at all.
fn members_keep_others_out(env: &Env) {
    cluster(env);
    let reach = "timeout 5 bash -c '</dev/tcp/10.245.0.2/2380' && echo reached";
    on(env, "kubby", reach).ok().prints("reached");
    let ask = "curl -sk -m 10 https://10.245.0.2:2380/version";
    assert_ne!(
        on(env, "kubby", ask).code,
        0,
        "it answers without a certificate"
    );
    // In the network of a pod, which has no shell.
    let dns = ["pods", "-n", "kube-system", "-l", "k8s-app=kube-dns"];
    let at = exercises::get(env, &dns, "{.items[0].spec.nodeName}");
    for node in ["10.245.0.1", "10.245.0.2"] {
        let reach = |port: u16| {
            let reach = format!(
                "nsenter -n -t $(pgrep -o coredns) timeout 5 bash -c '</dev/tcp/{node}/{port}' 2>&1"
            );
            on(env, &at, &reach).code == 0
        };
        assert!(reach(6443), "the pod reaches nothing of {node}");
        assert!(!reach(2380), "a pod reaches the etcd of {node}");
    }
}

/// The program that leads to the control planes is private, without rights, looked after and there.
fn the_endpoint_is_kept(env: &Env) {
    cluster(env);
    let folder = env
        .home()
        .join("profiles")
        .join(&env.profile)
        .join("endpoint");
    let pid = || {
        let pid = std::fs::read_to_string(folder.join("haproxy.pid")).expect("its ID");
        pid.trim().to_owned()
    };
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid())).expect("it runs");
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    assert!(!user.expect("its user").contains("\t0"), "{status}");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &folder.metadata().expect("the folder").permissions(),
    );
    assert_eq!(mode & 0o777, 0o700);
    let port = env.kubby(&["port", "api"]).ok().stdout;
    let all = std::fs::read_to_string("/proc/net/tcp").expect("sockets");
    let port = port.trim().parse::<u16>().expect("a port");
    assert!(
        all.contains(&format!("0100007F:{port:04X} 00000000:0000 0A")),
        "{all}"
    );
    // Of this cluster, and started by it.
    let ended = std::process::Command::new("kill").arg(pid()).status();
    assert!(ended.expect("kill").success());
    env.kubectl(&["get", "nodes"]).exits(1);
    env.kubby(&["doctor"])
        .exits(10)
        .prints("HAProxy, which leads to the control planes");
    env.kubby(&["doctor", "--fix"]);
    env.kubectl(&["get", "nodes"]).ok();
}
