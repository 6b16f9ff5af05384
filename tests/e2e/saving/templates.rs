//! Warm templates: made, used, refused, deleted.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::{
    delete, ensure, ensure_template, folder, has_mark, healthy, kubectl, mark, named, pool_folder,
    start, template,
};
use crate::env::Env;
use crate::group::Test;
use crate::program::{Run, Running};

pub const TESTS: &[Test] = tests![
    a_cold_start_saves_a_template,
    a_copy_starts_warm,
    copies_are_strangers_to_each_other,
    a_bad_template_is_shown_in_the_list,
    without_template_none_is_used,
];

/// The seconds that the cold start took.
static COLD: Mutex<Option<f64>> = Mutex::new(None);

fn a_cold_start_saves_a_template(env: &Env) {
    env.kubby(&["template", "prune", "--all"]).ok();
    env.kubby(&["template", "list"])
        .ok()
        .prints("There are no warm templates");
    let first = named(env, "a");
    let (run, result) = start(env, &first);
    note!("cold start: {:.1} s", run.took.as_secs_f64());
    assert_eq!(result["fromTemplate"], false, "{result}");
    let run = run.says("Save a warm template");
    let saved = template(env);
    assert_eq!(saved["problem"], Value::Null, "{saved}");
    assert!(saved["bytes"].as_u64().is_some_and(|b| b > 1 << 20));
    // Its node ran on after it was saved.
    healthy(env, &first);
    let seconds = run.took.as_secs_f64() - result["stages"]["template"].as_f64().unwrap_or(0.0);
    *COLD.lock().expect("the lock") = Some(seconds);
}

fn a_copy_starts_warm(env: &Env) {
    ensure_template(env);
    let copy = named(env, "b");
    let (run, result) = start(env, &copy);
    assert_eq!(result["fromTemplate"], true, "{}", run.stderr);
    healthy(env, &copy);
    assert_eq!(template(env)["usedBy"][0], copy.as_str());
    let warm = run.took.as_secs_f64();
    let cold = COLD.lock().expect("the lock");
    note!("warm start: {warm:.1} s, cold {cold:?} s");
    if let Some(cold) = *cold {
        assert!(warm < cold / 4.0, "warm {warm} s, cold {cold} s");
    }
}

/// Runs kubectl with the credentials of one cluster at the port of another.
fn across(env: &Env, whose: &str, at: &str) -> Run {
    let port = env.kubby_on(at, &["port", "api"]).ok();
    let port = port.stdout.trim().rsplit(':').next().expect("a port");
    let server = format!("https://127.0.0.1:{port}");
    kubectl(
        env,
        whose,
        &[
            "--server",
            &server,
            "get",
            "namespaces",
            "--request-timeout=20s",
        ],
    )
}

fn copies_are_strangers_to_each_other(env: &Env) {
    let (first, copy) = (named(env, "a"), named(env, "b"));
    ensure(env, &first);
    ensure(env, &copy);
    for (whose, at) in [(&first, &copy), (&copy, &first)] {
        let run = across(env, whose, at).exits(1);
        assert!(
            run.stderr.contains("Unauthorized") || run.stderr.contains("must be logged in"),
            "{}",
            run.stderr
        );
        across(env, whose, whose).ok();
    }
    let host_key = |profile: &str| {
        let show = "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key";
        env.kubby_on(profile, &["ssh", "--", show]).ok().stdout
    };
    let (a, b) = (host_key(&first), host_key(&copy));
    assert_ne!(a, b, "each has a host key of its own");
    for (whose, at) in [(&first, &copy), (&copy, &first)] {
        let refused = ssh(env, whose, at);
        assert_ne!(refused.code, 0, "{whose}'s key opens {at}");
        assert!(refused.stderr.contains("denied"), "{}", refused.stderr);
        ssh(env, whose, whose).ok();
    }
    mark(env, &copy, "of-the-copy");
    assert!(!has_mark(env, &first, "of-the-copy"));
    assert!(has_mark(env, &copy, "of-the-copy"));
    delete(env, &first);
    delete(env, &copy);
}

/// Runs OpenSSH with the key of one cluster at the port of another.
fn ssh(env: &Env, whose: &str, at: &str) -> Run {
    let port = env.kubby_on(at, &["port", "ssh"]).ok();
    let port = port.stdout.trim().rsplit(':').next().expect("a port");
    let mut command = Command::new("ssh");
    command
        .args(["-F", "none", "-p", port, "-o", "BatchMode=yes"])
        .args(["-o", "StrictHostKeyChecking=no", "-o", "IdentitiesOnly=yes"])
        .args(["-o", "UserKnownHostsFile=/dev/null", "-i"])
        .arg(ssh_key(env, whose))
        .args(["root@127.0.0.1", "true"])
        .stdin(Stdio::null());
    Run::of(command)
}

fn ssh_key(env: &Env, profile: &str) -> PathBuf {
    folder(env, profile).join("ssh/id_ed25519")
}

fn manifest(env: &Env) -> PathBuf {
    let key = template(env)["key"].as_str().expect("a key").to_owned();
    env.home().join("templates").join(key).join("manifest.json")
}

/// Returns a file of the template in the pool.
pub fn file(env: &Env, suffix: &str) -> PathBuf {
    let text = std::fs::read_to_string(manifest(env)).expect("the manifest");
    let saved: Value = serde_json::from_str(&text).expect("JSON");
    let id = saved["id"].as_str().expect("an id");
    pool_folder(env).join(format!("state-{id}.{suffix}"))
}

/// Checks that the list shows this as what is wrong with the template.
#[track_caller]
pub fn problem(env: &Env, words: &str) {
    let problem = template(env)["problem"].clone();
    assert!(
        problem.as_str().is_some_and(|p| p.contains(words)),
        "{words}: {problem}"
    );
    env.kubby(&["template", "list"]).ok();
}

fn a_bad_template_is_shown_in_the_list(env: &Env) {
    ensure_template(env);
    let path = manifest(env);
    let text = std::fs::read_to_string(&path).expect("the manifest");
    let saved: Value = serde_json::from_str(&text).expect("JSON");
    let qemu = saved["host"]["qemu"].as_str().expect("a version");
    for (changed, words) in [
        (
            text.replace("\"format\": 1", "\"format\": 99"),
            "another kubby",
        ),
        (
            text.replace(&format!("\"{qemu}\""), "\"9.9.9\""),
            "QEMU was 9.9.9",
        ),
        (text[..text.len() / 2].to_owned(), "damaged"),
    ] {
        assert_ne!(changed, text);
        std::fs::write(&path, changed).expect("the manifest");
        problem(env, words);
    }
    std::fs::write(&path, &text).expect("the manifest");
    assert_eq!(template(env)["problem"], Value::Null);

    let devices = std::fs::File::options()
        .read(true)
        .write(true)
        .open(file(env, "dev"))
        .expect("the devices' file");
    let mut byte = [0];
    devices.read_exact_at(&mut byte, 20).expect("a byte");
    devices.write_all_at(&[!byte[0]], 20).expect("another");
    problem(env, "was changed");
    devices.write_all_at(&byte, 20).expect("it is put back");
    assert_eq!(template(env)["problem"], Value::Null);
}

/// It is cut short when the node boots: that it boots at all is what counts.
fn without_template_none_is_used(env: &Env) {
    ensure_template(env);
    let name = named(env, "n");
    let before = template(env);
    let mut command = env.kubby_command();
    command
        .args(["start", "-p", &name, "--no-template", "--keep-context"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = Running::start(&mut command);
    let lines = BufReader::new(child.child().stderr.take().expect("stderr")).lines();
    let mut seen = Vec::new();
    for line in lines.map_while(Result::ok) {
        seen.push(line);
        if seen
            .last()
            .is_some_and(|l| l.starts_with("==> Boot the node"))
        {
            child.signal(Signal::INT);
        }
    }
    let status = child.ends_within(Duration::from_secs(60));
    let seen = seen.join("\n");
    assert_eq!(status.code(), Some(130), "{seen}");
    assert!(seen.contains("==> Boot the node"), "{seen}");
    assert!(!seen.contains("template"), "{seen}");
    delete(env, &name);
    assert_eq!(template(env)["key"], before["key"]);
    assert_eq!(template(env)["created"], before["created"]);
}
