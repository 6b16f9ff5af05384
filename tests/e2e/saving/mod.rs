//! Warm templates, pausing, suspending, snapshots and forks.

pub mod fork;
pub mod killed;
pub mod portable;
pub mod resting;
pub mod states;
pub mod templates;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::env::{Env, Run, eventually};

/// How long a cluster may take to answer after it woke.
const LIMIT: Duration = Duration::from_secs(60);

/// The name of a further cluster of this run.
pub fn named(env: &Env, suffix: &str) -> String {
    format!("{}-{suffix}", env.profile)
}

/// kubectl on a further cluster.
pub fn kubectl(env: &Env, profile: &str, args: &[&str]) -> Run {
    let args = [&["kubectl", "--"], args].concat();
    env.kubby_on(profile, &args)
}

/// Starts a cluster without touching kubectl's current context, and gives the result.
#[track_caller]
pub fn start(env: &Env, profile: &str) -> (Run, Value) {
    let run = env
        .kubby_on(profile, &["start", "--keep-context", "-o", "json"])
        .ok();
    let result = run.json();
    (run, result)
}

/// Everything runs, the node is Ready, and its clock is right.
#[track_caller]
pub fn healthy(env: &Env, profile: &str) {
    env.kubby_on(profile, &["status", "--exit-code"]).ok();
    eventually(LIMIT, "the node is Ready", || {
        let node = kubectl(env, profile, &["get", "node", "kubby", "--no-headers"]);
        if node.stdout.split_whitespace().nth(1) == Some("Ready") {
            Ok(())
        } else {
            Err(format!("{}{}", node.stdout, node.stderr))
        }
    });
    clock_is_right(env, profile);
}

/// The node's clock is the host's, within two seconds.
#[track_caller]
pub fn clock_is_right(env: &Env, profile: &str) {
    let before = now();
    let date = env.kubby_on(profile, &["ssh", "--", "date +%s.%N"]).ok();
    let after = now();
    let there: f64 = date.stdout.trim().parse().expect("a time");
    assert!(
        before - 2.0 < there && there < after + 2.0,
        "the node's clock says {there}, and it was {before} to {after}"
    );
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs_f64()
}

/// What `kubby status` calls the machine.
#[track_caller]
pub fn host(env: &Env, profile: &str) -> String {
    let status = env.kubby_on(profile, &["status", "-o", "json"]).ok();
    status.json()["host"].as_str().expect("a word").to_owned()
}

/// Makes a namespace, the sign by which a moment is known again.
#[track_caller]
pub fn mark(env: &Env, profile: &str, name: &str) {
    kubectl(env, profile, &["create", "namespace", name]).ok();
}

/// Whether the sign is there.
#[track_caller]
pub fn has_mark(env: &Env, profile: &str, name: &str) -> bool {
    let all = kubectl(env, profile, &["get", "namespaces", "-o", "name"]).ok();
    all.stdout.lines().any(|l| l == format!("namespace/{name}"))
}

/// A profile's folder.
pub fn folder(env: &Env, profile: &str) -> PathBuf {
    env.home().join("profiles").join(profile)
}

/// The storage pool of this home: its name.
pub fn pool(env: &Env) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(env.home().as_os_str().as_encoded_bytes());
    let short: String = digest.iter().take(4).map(|b| format!("{b:02x}")).collect();
    format!("kubby-{short}")
}

/// Its folder.
#[track_caller]
pub fn pool_folder(env: &Env) -> PathBuf {
    let xml = env.virsh(&["pool-dumpxml", &pool(env)]).ok().stdout;
    let path = xml.split("<path>").nth(1).expect("a path");
    path.split("</path>").next().expect("its end").into()
}

/// The files of saved memories in the pool.
#[track_caller]
pub fn state_files(env: &Env) -> BTreeSet<String> {
    std::fs::read_dir(pool_folder(env))
        .expect("the pool's folder")
        .map(|entry| {
            let name = entry.expect("an entry").file_name();
            name.to_string_lossy().into_owned()
        })
        .filter(|name| name.starts_with("state-"))
        .collect()
}

/// The only template.
#[track_caller]
pub fn template(env: &Env) -> Value {
    let list = env.kubby(&["template", "list", "-o", "json"]).ok().json();
    let all = list["templates"].as_array().expect("a list");
    assert_eq!(all.len(), 1, "{list}");
    all[0].clone()
}

/// Deletes a cluster.
#[track_caller]
pub fn delete(env: &Env, profile: &str) {
    env.kubby_on(profile, &["delete"]).ok();
    assert!(!folder(env, profile).exists());
}
