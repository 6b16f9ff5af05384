//! Control planes die, one after the other and all at once: kubectl answers, and nothing is lost.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use super::{ALL, are_whole, cluster};
use crate::env::Env;
use crate::exercises::LIMIT;
use crate::faults::disrupted::qemu;
use crate::group::Test;
use crate::program::{eventually, has_ended};

pub const TESTS: &[Test] = tests![
    each_dies_in_turn,
    a_lost_majority_is_reported,
    all_lose_their_power.long(),
];

/// The limit for kubectl to answer after a control plane's death, on machines where an emulated node boots in
/// 17 seconds.
const ANSWERS: Duration = Duration::from_secs(17);

/// Returns the number of times that each dies: one, or as often as `KUBBY_E2E_DEATHS` says.
fn rounds() -> u32 {
    let asked = std::env::var("KUBBY_E2E_DEATHS").ok();
    asked.map_or(1, |n| n.parse().expect("a number"))
}

/// Kills a machine's QEMU; returns when the process is gone, which takes a moment for gigabytes of memory.
fn kill(env: &Env, node: &str) {
    let domain = match node {
        "kubby" => env.domain(),
        node => format!("{}.{node}", env.domain()),
    };
    let pid = qemu(&domain);
    kill_process(pid, Signal::KILL).expect("killed");
    eventually(env.limit_here(LIMIT), "the machine is gone", || {
        has_ended(pid.as_raw_pid())
            .then_some(())
            .ok_or("QEMU is there")
    });
}

/// The number of writes that are acknowledged before a control plane dies.
const WRITTEN: usize = 5;

/// Writes objects one after the other until it is told to stop; counts those that were acknowledged, and returns
/// their names.
fn write(env: &Env, prefix: &str, stop: &AtomicBool, count: &AtomicUsize) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    for number in 0.. {
        let name = format!("{prefix}-{number}");
        let create = ["create", "configmap", &name, "--request-timeout=20s"];
        if env.kubectl(&create).code == 0 {
            acknowledged.insert(format!("configmap/{name}"));
            count.fetch_add(1, Ordering::Relaxed);
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    acknowledged
}

/// Kills a control plane under writes; returns how long kubectl did not answer, and checks that all that was
/// acknowledged is there.
fn die(env: &Env, node: &str, round: u32) -> Duration {
    let prefix = format!("{node}-{round}");
    let (stop, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(env, &prefix, &stop, &count));
        let began = Instant::now();
        // Not `eventually`, whose panic would wait for the writer, which nothing stops.
        while count.load(Ordering::Relaxed) < WRITTEN && began.elapsed() < env.limit_here(LIMIT) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let began = Instant::now();
        kill(env, node);
        eventually(env.limit_here(LIMIT), "kubectl answers", || {
            let get = env.kubectl(&["get", "nodes", "--request-timeout=10s"]);
            if get.code == 0 {
                Ok(())
            } else {
                Err(get.stderr)
            }
        });
        let answered = began.elapsed();
        eventually(env.limit_here(LIMIT), "the API takes writes", || {
            let name = format!("{prefix}-after");
            let create = env.kubectl(&["create", "configmap", &name, "--request-timeout=10s"]);
            if create.code == 0 {
                Ok(())
            } else {
                Err(create.stderr)
            }
        });
        let takes_writes = began.elapsed();
        stop.store(true, Ordering::Relaxed);
        let acknowledged = writer.join().expect("the writer");
        let there = env
            .kubectl(&["get", "configmaps", "-o", "name"])
            .ok()
            .stdout;
        let there: BTreeSet<String> = there.lines().map(str::to_owned).collect();
        let lost: Vec<&String> = acknowledged.difference(&there).collect();
        note!(
            "{node} died: kubectl answered after {:.1} s, writes after {:.1} s, {} acknowledged, {} lost",
            answered.as_secs_f64(),
            takes_writes.as_secs_f64(),
            acknowledged.len(),
            lost.len()
        );
        assert!(
            lost.is_empty() && acknowledged.len() >= WRITTEN,
            "{acknowledged:?} {lost:?}"
        );
        answered
    })
}

/// Saves the whole cluster, to which it comes back faster than by a boot.
fn whole(env: &Env) {
    cluster(env);
    env.once("whole", || {
        env.kubby(&["snapshot", "save", "whole"]).ok();
    });
}

/// Waits until the status says that a machine is off, and the API runs; libvirt hears of a death a moment later.
fn is_off(env: &Env) {
    eventually(LIMIT, "the status tells of the death", || {
        let status = env.kubby(&["status", "-o", "json"]).ok().json();
        if status["apiserver"] == "Running" && status["host"] == "Stopped" {
            Ok(())
        } else {
            Err(status)
        }
    });
}

fn each_dies_in_turn(env: &Env) {
    whole(env);
    for round in 0..rounds() {
        for node in ALL {
            are_whole(env, &ALL);
            let answered = die(env, node, round);
            let limit = env.limit_here(ANSWERS);
            assert!(answered <= limit, "{node}: {answered:?} of {limit:?}");
            is_off(env);
            match (round, node) {
                (0, "kubby") => come_back(env),
                _ => drop(env.kubby(&["snapshot", "restore", "whole"]).ok()),
            }
        }
    }
}

/// Where the majority is gone, status says which nodes are needed, and no more of them is taken away.
fn a_lost_majority_is_reported(env: &Env) {
    whole(env);
    for node in &ALL[1..] {
        env.kubby(&["node", "stop", node, "--force"]).ok();
    }
    env.kubby(&["status"]).ok().prints(
        "etcd needs 2 of 3 control planes, and 1 runs; off: control-plane-2, control-plane-3",
    );
    env.kubby(&["node", "delete", "control-plane-3"])
        .exits(15)
        .says("no majority without `control-plane-3`")
        .says("--force");
    env.kubby(&["snapshot", "restore", "whole"]).ok();
}

fn all_lose_their_power(env: &Env) {
    cluster(env);
    env.kubectl(&["create", "configmap", "earlier"]).ok();
    ALL.iter().for_each(|node| kill(env, node));
    come_back(env);
    env.kubectl(&["get", "configmap", "earlier"]).ok();
}

fn come_back(env: &Env) {
    let start = env.kubby(&["start"]).ok();
    note!(
        "control planes boot again: {:.1} s",
        start.took.as_secs_f64()
    );
    are_whole(env, &ALL);
}
