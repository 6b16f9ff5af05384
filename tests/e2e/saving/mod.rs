//! Warm templates, pausing, suspending, snapshots and forks.

pub mod copies;
pub mod fork;
pub mod killed;
pub mod portable;
pub mod states;
pub mod templates;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::env::Env;
use crate::program::{Run, eventually};

/// The limit of a running cluster's answer.
const LIMIT: Duration = Duration::from_secs(60);

/// Returns the name of a further cluster of the group.
pub fn named(env: &Env, suffix: &str) -> String {
    format!("{}-{suffix}", env.profile)
}

/// Runs kubectl on a further cluster.
pub fn kubectl(env: &Env, profile: &str, args: &[&str]) -> Run {
    let args = [&["kubectl", "--"], args].concat();
    env.kubby_on(profile, &args)
}

/// Starts a cluster without touching kubectl's current context, and returns the result.
#[track_caller]
pub fn start(env: &Env, profile: &str) -> (Run, Value) {
    let run = env
        .kubby_on(profile, &["start", "--keep-context", "-o", "json"])
        .ok();
    let result = run.json();
    (run, result)
}

/// Checks that everything runs, the node is Ready, and its clock is right.
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

/// Checks that the node's clock is the host's, within two seconds.
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

/// Returns what `kubby status` calls the machine.
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

/// Returns whether the sign is there.
#[track_caller]
pub fn has_mark(env: &Env, profile: &str, name: &str) -> bool {
    let all = kubectl(env, profile, &["get", "namespaces", "-o", "name"]).ok();
    all.stdout.lines().any(|l| l == format!("namespace/{name}"))
}

/// Returns a profile's folder.
pub fn folder(env: &Env, profile: &str) -> PathBuf {
    env.home().join("profiles").join(profile)
}

/// Returns the name of the storage pool of this home.
pub fn pool(env: &Env) -> String {
    kubby::testing::store::Store::at(&env.home(), &env.cache()).pool_name()
}

/// Returns the folder of that pool.
#[track_caller]
pub fn pool_folder(env: &Env) -> PathBuf {
    let xml = env.virsh(&["pool-dumpxml", &pool(env)]).ok().stdout;
    let path = xml.split("<path>").nth(1).expect("a path");
    path.split("</path>").next().expect("its end").into()
}

/// Returns the files of saved memories in the pool.
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

/// Returns the only template.
#[track_caller]
pub fn template(env: &Env) -> Value {
    let list = env.kubby(&["template", "list", "-o", "json"]).ok().json();
    let all = list["templates"].as_array().expect("a list");
    assert_eq!(all.len(), 1, "{list}");
    all[0].clone()
}

/// Returns what the names of the templates' files in the pool have in them: their ids and disks.
pub fn template_parts(env: &Env) -> BTreeSet<String> {
    let folders = std::fs::read_dir(env.home().join("templates"));
    let folders = folders.into_iter().flatten().flatten();
    let with_nodes = |folder: PathBuf| {
        let nodes = std::fs::read_dir(folder.join("nodes"));
        let nodes = nodes.into_iter().flatten().flatten();
        let nodes: Vec<PathBuf> = nodes.map(|node| node.path()).collect();
        [folder].into_iter().chain(nodes)
    };
    let folders = folders.flat_map(|folder| with_nodes(folder.path()));
    let manifests = folders.map(|folder| folder.join("manifest.json"));
    let parts = |path: PathBuf| {
        let text = std::fs::read_to_string(path).ok()?;
        let saved: Value = serde_json::from_str(&text).ok()?;
        Some(["id", "disk"].map(|part| saved[part].as_str().expect("a name").to_owned()))
    };
    manifests.filter_map(parts).flatten().collect()
}

/// Returns the files of saved memories that are of no template.
#[track_caller]
pub fn states_beside_templates(env: &Env) -> BTreeSet<String> {
    let parts = template_parts(env);
    let of_template = |name: &String| parts.iter().any(|part| name.contains(part));
    let files = state_files(env).into_iter();
    files.filter(|name| !of_template(name)).collect()
}

/// Makes the template of the usual cluster, unless it is there.
#[track_caller]
pub fn ensure_template(env: &Env) {
    if template_parts(env).is_empty() {
        let name = named(env, "first");
        start(env, &name);
        delete(env, &name);
    }
}

/// Starts a cluster, unless it was made.
#[track_caller]
pub fn ensure(env: &Env, profile: &str) {
    if !folder(env, profile).exists() {
        start(env, profile);
    }
}

/// Deletes a cluster.
#[track_caller]
pub fn delete(env: &Env, profile: &str) {
    env.kubby_on(profile, &["delete"]).ok();
    assert!(!folder(env, profile).exists());
}
