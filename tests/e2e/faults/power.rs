//! Power loss under writes: what the API has acknowledged is there afterwards.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kubby::testing::api::ApiClient;
use rustix::process::{Signal, kill_process};
use serde_json::json;

use super::disrupted::qemu;
use crate::env::Env;
use crate::group::Test;
use crate::saving::{folder, healthy, kubectl, mark, start};

pub const TESTS: &[Test] = tests![acknowledged_writes_survive_power_loss,];

/// Writes of a round, all of them acknowledged where the power lasts.
const WRITES: u32 = 1000;
/// The number of those that write at a time.
const WRITERS: u32 = 8;

/// Returns the number of rounds: one, or as many as `KUBBY_E2E_POWER_LOSSES` says.
fn rounds() -> u32 {
    let asked = std::env::var("KUBBY_E2E_POWER_LOSSES").ok();
    asked.map_or(1, |n| n.parse().expect("a number"))
}

fn client(env: &Env, profile: &str) -> ApiClient {
    let port = env.kubby_on(profile, &["port", "api"]).ok().stdout;
    let port = port.trim().rsplit(':').next().expect("a port");
    let read = |file: &str| {
        let path = folder(env, profile).join("pki").join(file);
        std::fs::read_to_string(path).expect("a certificate")
    };
    let port = port.parse().expect("a number");
    let client = ApiClient::new(
        port,
        &read("ca.crt"),
        &read("admin.crt"),
        &read("admin.key"),
    );
    client.expect("a client")
}

fn acknowledged_writes_survive_power_loss(env: &Env) {
    let name = env.profile.clone();
    let (mut all, mut lost) = (0, Vec::new());
    for round in 0..rounds() {
        let namespace = format!("round-{round}");
        mark(env, &name, &namespace);
        empty_what_networks_were_like(env, &name);
        let written = write_until_power_is_lost(env, &name, &namespace, round);
        let began = Instant::now();
        start(env, &name);
        pods_run(env, &name);
        let list = kubectl(
            env,
            &name,
            &["get", "configmaps", "-n", &namespace, "-o", "name"],
        )
        .ok();
        let there: BTreeSet<&str> = list
            .stdout
            .lines()
            .filter_map(|line| line.strip_prefix("configmap/"))
            .collect();
        let missing: Vec<_> = written
            .iter()
            .filter(|w| !there.contains(w.as_str()))
            .collect();
        note!(
            "round {round}: {} acknowledged, {} missing; back after {:.1} s",
            written.len(),
            missing.len(),
            began.elapsed().as_secs_f64()
        );
        all += written.len();
        lost.extend(missing.into_iter().cloned());
    }
    healthy(env, &name);
    note!("{all} acknowledged writes, {} lost", lost.len());
    assert!(lost.is_empty(), "{lost:?}");
    assert!(all > 0);
}

/// Leaves what pods' networks were like as a power loss soon after their start does: by itself one
/// round of six did.
fn empty_what_networks_were_like(env: &Env, profile: &str) {
    let empty = "find /var/lib/cni/results -type f -print -exec truncate -s 0 {} + && sync";
    env.kubby_on(profile, &["ssh", "--", empty])
        .ok()
        .prints("/var/lib/cni/results/kubby-");
}

/// Checks that what `start` calls running is, and not what the API believes of the time before.
fn pods_run(env: &Env, profile: &str) {
    let sandboxes = ["ssh", "--", "crictl", "pods", "--state", "Ready"];
    env.kubby_on(profile, &sandboxes).ok().prints("coredns");
}

/// Writes as fast as it goes, and kills QEMU at a moment that differs from round to round. Returns
/// the names that the API had acknowledged.
fn write_until_power_is_lost(env: &Env, profile: &str, namespace: &str, round: u32) -> Vec<String> {
    let client = client(env, profile);
    let machine = qemu(&format!("kubby-{profile}"));
    let moment = {
        // Anywhere from the first writes on to all of them written.
        let bytes = uuid::Uuid::new_v4().into_bytes();
        20 + u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) % (WRITES - 20)
    };
    let written = Mutex::new(Vec::new());
    let (next, over) = (AtomicU32::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= WRITES {
                        return;
                    }
                    let name = format!("w-{n}");
                    let object = json!({
                        "apiVersion": "v1",
                        "kind": "ConfigMap",
                        "metadata": {"name": name, "namespace": namespace},
                        "data": {"round": round.to_string(), "n": n.to_string()},
                    });
                    let path = format!("/api/v1/namespaces/{namespace}/configmaps/{name}");
                    if client.apply(&path, &object, true).is_ok_and(|a| a.is_ok()) {
                        written.lock().expect("the lock").push(name);
                    }
                }
            });
        }
        let until = Instant::now() + Duration::from_secs(300);
        let count = || written.lock().expect("the lock").len();
        while count() < moment as usize && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        kill_process(machine, Signal::KILL).expect("a signal");
        over.store(true, Ordering::Relaxed);
    });
    written.into_inner().expect("the lock")
}
