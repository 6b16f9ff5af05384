//! Control planes are taken out of the cluster.

use super::{ALL, are_whole, cluster};
use crate::env::Env;
use crate::group::Test;
use crate::nodes::on;
use crate::program::has_ended;

pub const TESTS: &[Test] = tests![
    a_majority_that_is_lost_is_given_up.long(),
    the_last_one_needs_no_endpoint,
];

/// With two of three gone for good, the first one goes on alone where that is asked for.
fn a_majority_that_is_lost_is_given_up(env: &Env) {
    cluster(env);
    env.kubectl(&["create", "configmap", "kept"]).ok();
    for node in ["control-plane-2", "control-plane-3"] {
        env.kubby(&["node", "stop", node, "--force"]).ok();
    }
    let delete = ["node", "delete", "control-plane-3", "--force"];
    let delete = env.kubby(&delete).ok();
    note!("a majority given up: {:.1} s", delete.took.as_secs_f64());
    delete.says("becomes etcd's only member");
    are_whole(env, &ALL[..2]);
    env.kubectl(&["get", "configmap", "kept"]).ok();
}

fn the_last_one_needs_no_endpoint(env: &Env) {
    cluster(env);
    let members = "etcdctl --endpoints=unix:///run/etcd/etcd.sock member list | wc -l";
    for node in ["control-plane-3", "control-plane-2"] {
        let listed = env.kubectl(&["get", "node", node]).code == 0;
        if listed {
            env.kubby(&["node", "delete", node]).ok();
        }
    }
    are_whole(env, &ALL[..1]);
    assert_eq!(on(env, "kubby", members).ok().stdout.trim(), "1");
    let endpoint = env
        .home()
        .join("profiles")
        .join(&env.profile)
        .join("endpoint/haproxy.pid");
    let pid = std::fs::read_to_string(endpoint).expect("its ID");
    assert!(has_ended(pid.trim()), "the program still runs");
}
