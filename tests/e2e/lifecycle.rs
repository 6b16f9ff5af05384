//! Exercises 1 and 8: the cluster is made, found unchanged, stopped, brought back, deleted.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::env::{Env, Test, uri};
use crate::saving::pool;

pub const BEFORE: &[Test] = &[
    (
        "an_interrupted_start_can_go_on",
        an_interrupted_start_can_go_on,
    ),
    ("start_makes_a_ready_node", start_makes_a_ready_node),
];

pub const STOP: &[Test] = &[("stop_and_start_keep_the_data", stop_and_start_keep_the_data)];

pub const AFTER: &[Test] = &[
    ("a_killed_machine_comes_back", a_killed_machine_comes_back),
    ("delete_leaves_nothing", delete_leaves_nothing),
];

/// Ctrl-C while the machine boots: the documented code, and a state that the next start takes up.
fn an_interrupted_start_can_go_on(env: &Env) {
    // The user has a context already; it must survive everything.
    std::fs::create_dir_all(env.kubeconfig().parent().expect("a parent")).expect("a folder");
    std::fs::write(env.kubeconfig(), FOREIGN).expect("a kubeconfig");
    let mut command = env.kubby_command();
    command
        .args(["start", "-p", &env.profile])
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("kubby runs");
    let mut lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
    let booting = lines.any(|line| line.is_ok_and(|l| l.starts_with("==> Boot the node")));
    assert!(booting, "the node never booted");
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::INT).expect("a signal");
    let began = Instant::now();
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    let status = child.wait().expect("kubby ends");
    assert_eq!(status.code(), Some(130), "{}", rest.join("\n"));
    assert!(
        began.elapsed().as_secs() < 5,
        "it took {:?} to stop",
        began.elapsed()
    );
    let host = env.kubby(&["status", "-o", "json"]).ok().json()["host"].clone();
    assert_eq!(host, "Running", "the machine is left as it is");
}

fn start_makes_a_ready_node(env: &Env) {
    let run = env.kubby(&["start", "--output", "json"]).ok();
    eprintln!(
        "  start, from an interrupted one: {:.1} s",
        run.took.as_secs_f64()
    );
    env.first_start_took(run.took);
    let result = run.json();
    assert_eq!(result["kind"], "Start");
    assert_eq!(result["kubernetesVersion"], "v1.37.2");
    assert_eq!(result["currentContext"], true);
    let node = env.kubectl(&["get", "nodes", "--no-headers"]).ok();
    let words: Vec<&str> = node.stdout.split_whitespace().collect();
    assert_eq!(
        words[..3],
        ["kubby", "Ready", "control-plane"],
        "{}",
        node.stdout
    );
    assert_eq!(words[4], "v1.37.2", "{}", node.stdout);
}

const FOREIGN: &str = "apiVersion: v1
kind: Config
# the one at work
clusters:
- name: work
  cluster: {server: https://work.example:6443}
contexts:
- name: work
  context: {cluster: work, user: me}
users:
- name: me
  user: {token: abc}
current-context: work
";

fn stop_and_start_keep_the_data(env: &Env) {
    env.kubectl(&["create", "namespace", "kept"]).ok();
    let stop = env.kubby(&["stop"]).ok();
    eprintln!("  stop: {:.1} s", stop.took.as_secs_f64());
    assert!(!stop.stderr.contains("power cut"), "{}", stop.stderr);
    let status = env.kubby(&["status", "-o", "json"]).ok().json();
    assert_eq!(status["host"], "Stopped");
    assert_eq!(status["apiserver"], "Stopped");
    assert_eq!(status["kubeconfig"], "Configured");
    env.kubby(&["status", "--exit-code"]).exits(15);
    env.kubby(&["ssh", "true"]).exits(13).says("kubby start");
    env.kubby(&["dashboard"]).exits(15).says("kubby start");
    env.kubby(&["stop"]).ok();

    // Other sizes are for a machine that is off.
    let start = env.kubby(&["start", "--memory", "3GiB", "-o", "json"]).ok();
    eprintln!("  start again: {:.1} s", start.took.as_secs_f64());
    assert!(
        !start.stderr.contains("Build"),
        "nothing is built again:\n{}",
        start.stderr
    );
    assert_eq!(start.json()["created"], false);
    assert_eq!(start.json()["memoryMiB"], 3072);
    env.kubectl(&["get", "namespace", "kept"]).ok();
    env.kubby(&["status", "--exit-code"]).ok();
}

/// Takes away what tests that failed or were left out have not, so that the last ones find what they
/// expect: the shared cluster at work, and no other.
pub fn tidy(env: &Env) {
    let list = env.kubby(&["list", "-o", "json"]).ok().json();
    for row in list["profiles"].as_array().expect("a list") {
        let name = row["profile"].as_str().expect("a name");
        if name != env.profile {
            eprintln!("  left by a test that did not end: {name}");
            env.kubby_on(name, &["delete"]).ok();
        }
    }
    env.kubby(&["start"]).ok();
}

fn a_killed_machine_comes_back(env: &Env) {
    env.kubectl(&["create", "configmap", "written", "--from-literal=a=b"])
        .ok();
    env.virsh(&["destroy", &env.domain()]).ok();
    env.kubby(&["status", "-o", "json"]).ok().prints("Stopped");
    env.kubby(&["start"]).ok();
    env.kubectl(&["get", "configmap", "written", "-o", "jsonpath={.data.a}"])
        .ok()
        .prints("b");
}

fn delete_leaves_nothing(env: &Env) {
    // This home's own pool: the host may have those of other homes.
    let own = pool(env);
    let there = |env: &Env| {
        let pools = env.virsh(&["pool-list", "--all", "--name"]).ok().stdout;
        pools.lines().any(|name| name.trim() == own)
    };
    assert!(there(env), "the pool {own} is there before");
    env.kubby(&["delete"]).ok();
    // Templates are no cluster's: they stay until they are deleted themselves.
    env.kubby(&["template", "prune", "--all"]).ok();
    assert!(!env.home().exists(), "{} is gone", env.home().display());
    let domains = env.virsh(&["list", "--all", "--name"]).ok().stdout;
    assert!(!domains.contains(&env.domain()), "{domains}");
    assert!(!there(env), "the pool {own} is gone");
    if uri() == "qemu:///system" {
        let folder = format!("/var/lib/libvirt/images/{own}");
        assert!(!std::path::Path::new(&folder).exists(), "{folder} is gone");
    }
    let text = std::fs::read_to_string(env.kubeconfig()).expect("the user's kubeconfig");
    assert!(
        text.contains("# the one at work") && text.contains("name: work"),
        "{text}"
    );
    assert!(!text.contains("kubby"), "{text}");
    // Again, and nothing to do is no error.
    env.kubby(&["delete"]).ok();
    env.kubby(&["status", "-o", "json"])
        .ok()
        .prints("Nonexistent");
    env.kubby(&["status", "--exit-code"]).exits(15);
}
