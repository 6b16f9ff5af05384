//! Exercises 4 to 6 and 8: workloads, the database and the serverless job, with the chapter's own
//! manifests, and what people enable beside them.

pub mod addons;
pub mod database;
pub mod ending;
pub mod images;
pub mod plugins;
pub mod policies;
pub mod runtime;
pub mod workloads;

use std::path::PathBuf;
use std::time::Duration;

use crate::env::Env;
use crate::program::Run;

/// The limit of a workload on a slow machine under emulation.
pub const LIMIT: Duration = Duration::from_secs(300);

/// Returns the path of a file beside these tests.
pub fn file(name: &str) -> String {
    format!("{}/tests/e2e/exercises/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Applies manifests that a test holds as text.
pub fn apply(env: &Env, name: &str, text: &str) -> PathBuf {
    let path = env.root().join(format!("{name}.yaml"));
    std::fs::write(&path, text).expect("a manifest");
    env.kubectl(&["apply", "-f", &path.to_string_lossy()]).ok();
    path
}

/// Applies manifests whose pods have [`images::BUSYBOX`], in the place of the word `BUSYBOX`.
pub fn apply_busybox(env: &Env, name: &str, text: &str) -> PathBuf {
    images::load_busybox(env);
    apply(env, name, &text.replace("BUSYBOX", images::BUSYBOX))
}

/// Deletes what [`apply`] has brought.
pub fn delete(env: &Env, path: &std::path::Path) {
    env.kubectl(&["delete", "--grace-period=1", "-f", &path.to_string_lossy()])
        .ok();
}

/// Runs `kubectl rollout status`; what the pods say is shown when it takes too long.
#[track_caller]
pub fn rolled_out(env: &Env, what: &str) {
    let timeout = format!("--timeout={}s", LIMIT.as_secs());
    shown_on_failure(env, env.kubectl(&["rollout", "status", what, &timeout]));
}

/// Runs `kubectl wait`.
#[track_caller]
pub fn wait_for(env: &Env, condition: &str, what: &[&str]) {
    let timeout = format!("--timeout={}s", LIMIT.as_secs());
    let condition = format!("--for={condition}");
    let args = [&["wait", &condition, &timeout], what].concat();
    shown_on_failure(env, env.kubectl(&args));
}

#[track_caller]
fn shown_on_failure(env: &Env, run: Run) {
    if run.code != 0 {
        let pods = env.kubectl(&["get", "pods,pvc,events", "-A"]).stdout;
        let describe = env.kubectl(&["describe", "pods"]).stdout;
        panic!("{}\n{}\n{pods}\n{describe}", run.stdout, run.stderr);
    }
}

/// Returns what a command in a pod prints.
#[track_caller]
pub fn exec(env: &Env, pod: &str, command: &[&str]) -> String {
    let args = [&["exec", pod, "--"], command].concat();
    env.kubectl(&args).ok().stdout
}

/// Returns one value of an object.
#[track_caller]
pub fn get(env: &Env, what: &[&str], jsonpath: &str) -> String {
    let output = format!("jsonpath={jsonpath}");
    let args = [&["get"], what, &["-o", &output]].concat();
    env.kubectl(&args).ok().stdout
}
