//! A cluster is started, stopped and started again.

use std::time::Duration;

use crate::env::Env;
use crate::exercises::database;
use crate::exercises::ending::Ending;
use crate::group::Test;
use crate::services::Addresses;

pub const STARTED: &[Test] = tests![start_makes_a_ready_node];

pub const STOPPED: &[Test] = tests![stop_and_start_keep_the_data];

fn start_makes_a_ready_node(env: &Env) {
    let result = env.start_result();
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

/// One stop and one start, for all that has to outlive them: objects, addresses of Services, the rows
/// of a database.
fn stop_and_start_keep_the_data(env: &Env) {
    let addresses = Addresses::open(env);
    database::with_prices(env);
    env.kubectl(&["create", "namespace", "kept"]).ok();
    let ending = Ending::begin(env);
    let stop = env.kubby(&["stop"]).ok();
    note!("stop: {:.1} s", stop.took.as_secs_f64());
    for bad in ["powered off", "cut off", "preStop"] {
        assert!(!stop.stderr.contains(bad), "{}", stop.stderr);
    }
    // 25 s of work, and no time for a process that hears no signal.
    assert!(stop.took < Duration::from_secs(80), "{:?}", stop.took);
    let status = env.kubby(&["status", "-o", "json"]).ok().json();
    assert_eq!(status["host"], "Stopped");
    assert_eq!(status["apiserver"], "Stopped");
    assert_eq!(status["kubeconfig"], "Configured");
    env.kubby(&["status", "--exit-code"]).exits(15);
    env.kubby(&["ssh", "true"]).exits(13).says("kubby start");
    env.kubby(&["dashboard"]).exits(15).says("kubby start");
    env.kubby(&["stop"]).ok();
    addresses.are_closed();

    // Other sizes are for a machine that is off.
    let start = env.kubby(&["start", "--memory", "3GiB", "-o", "json"]).ok();
    note!("start again: {:.1} s", start.took.as_secs_f64());
    assert!(
        !start.stderr.contains("Build"),
        "nothing is built again:\n{}",
        start.stderr
    );
    assert_eq!(start.json()["created"], false);
    assert_eq!(start.json()["memoryMiB"], 3072);
    env.kubectl(&["get", "namespace", "kept"]).ok();
    env.kubby(&["status", "--exit-code"]).ok();
    // The node has booted, which copies of a template have not.
    env.kubby(&["logs", "--console"]).ok().prints("login:");
    addresses.last(env, &start);
    database::rows_survived(env);
    ending.was_clean(env);
}
