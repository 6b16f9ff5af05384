//! Warm templates: made, used, refused, deleted.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{
    delete, folder, has_mark, healthy, kubectl, mark, named, pool_folder, resting, start,
    state_files, template,
};
use crate::env::{Env, Run, Test};

pub const TESTS: &[Test] = &[
    ("a_cold_start_saves_a_template", a_cold_start_saves_one),
    ("a_copy_starts_warm", a_copy_starts_warm),
    ("copies_are_strangers_to_each_other", strangers),
    // Three more beside those that are there would ask more of two processors than they have.
    ("clusters_rest_for_long", resting::rest),
    ("copies_start_side_by_side", copies_start_side_by_side),
    ("a_bad_template_is_told_in_the_list", a_bad_one_is_told),
    (
        "without_template_none_is_used",
        without_template_none_is_used,
    ),
];

/// What ends the template.
pub const LATER: &[Test] = &[
    ("a_cut_template_is_made_anew", a_cut_template_is_made_anew),
    (
        "a_copy_lives_on_without_its_template",
        a_copy_lives_on_without_its_template,
    ),
];

/// What the cold start took, in seconds.
static COLD: Mutex<Option<f64>> = Mutex::new(None);

fn a_cold_start_saves_one(env: &Env) {
    env.kubby(&["template", "prune", "--all"]).ok();
    env.kubby(&["template", "list"])
        .ok()
        .prints("There are no warm templates");
    let first = named(env, "a");
    let (run, result) = start(env, &first);
    eprintln!("  cold start: {:.1} s", run.took.as_secs_f64());
    assert_eq!(result["fromTemplate"], false, "{result}");
    let run = run.says("Save a warm template");
    let saved = template(env);
    assert_eq!(saved["problem"], Value::Null, "{saved}");
    assert!(saved["bytes"].as_u64().is_some_and(|b| b > 1 << 20));
    // Its node went on after it was saved.
    healthy(env, &first);
    compare_beginnings(env, &first);
    let seconds = run.took.as_secs_f64() - result["stages"]["template"].as_f64().unwrap_or(0.0);
    *COLD.lock().expect("the lock") = Some(seconds);
}

/// What every API server and its controllers make alike comes with the components; what makes a
/// cluster the one that it is does not.
fn compare_beginnings(env: &Env, first: &str) {
    let uid = |profile: &str, namespace: &str, object: &str| {
        let path = "jsonpath={.metadata.uid}";
        let query = ["get", "-n", namespace, object, "-o", path];
        let uid = kubectl(env, profile, &query).ok().stdout;
        assert_eq!(uid.len(), 36, "{object}: {uid}");
        uid
    };
    for (namespace, object, alike) in [
        ("default", "clusterrole/cluster-admin", true),
        ("default", "apiservice/v1.apps", true),
        ("kube-system", "serviceaccount/node-controller", true),
        ("kube-system", "serviceaccount/default", false),
        ("default", "namespace/kube-system", false),
        ("default", "service/kubernetes", false),
    ] {
        let [here, there] = [&env.profile, first].map(|p| uid(p, namespace, object));
        assert_eq!(here == there, alike, "{object}");
    }
    // An account that is alike still belongs to its cluster alone: each signs with its own key.
    let account = ["create", "token", "-n", "kube-system", "node-controller"];
    let token = kubectl(env, first, &account).ok().stdout;
    let file = env.root().join("review.json");
    let review = serde_json::json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token.trim()},
    });
    std::fs::write(&file, review.to_string()).expect("a file");
    let file = file.to_string_lossy();
    for (profile, known) in [(first, Value::Bool(true)), (&env.profile, Value::Null)] {
        let create = ["create", "-f", &file, "-o", "json"];
        let answer = kubectl(env, profile, &create).ok().json();
        assert_eq!(answer["status"]["authenticated"], known, "{answer}");
    }
}

fn a_copy_starts_warm(env: &Env) {
    let copy = named(env, "b");
    let (run, result) = start(env, &copy);
    assert_eq!(result["fromTemplate"], true, "{}", run.stderr);
    healthy(env, &copy);
    assert_eq!(template(env)["usedBy"][0], copy.as_str());
    let warm = run.took.as_secs_f64();
    let cold = COLD.lock().expect("the lock");
    eprintln!("  warm start: {warm:.1} s, cold {cold:?} s");
    if let Some(cold) = *cold {
        assert!(warm < cold / 4.0, "warm {warm} s, cold {cold} s");
    }
}

/// kubectl with the credentials of one cluster at the port of another.
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

fn strangers(env: &Env) {
    let (first, copy) = (named(env, "a"), named(env, "b"));
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
}

/// OpenSSH with the key of one cluster at the port of another.
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

/// Deletes the clusters when the test ends, however it does: what comes next needs the processors.
struct Gone<'a> {
    env: &'a Env,
    names: &'a [String],
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        for name in self.names {
            self.env.kubby_on(name, &["delete"]);
        }
    }
}

fn copies_start_side_by_side(env: &Env) {
    let names: Vec<String> = ["c", "d", "e"].map(|n| named(env, n)).to_vec();
    let _gone = Gone { env, names: &names };
    let results: Vec<Value> = std::thread::scope(|scope| {
        let starts: Vec<_> = names
            .iter()
            .map(|name| scope.spawn(|| start(env, name).1))
            .collect();
        let ended = starts.into_iter().map(|s| s.join().expect("it starts"));
        ended.collect()
    });
    let mut servers: Vec<&str> = Vec::new();
    for (name, result) in names.iter().zip(&results) {
        assert_eq!(result["fromTemplate"], true, "{result}");
        eprintln!("  {name}: {} s", result["seconds"]);
        healthy(env, name);
        servers.push(result["server"].as_str().expect("a URL"));
    }
    servers.sort_unstable();
    servers.dedup();
    assert_eq!(servers.len(), 3, "each has a port of its own: {results:?}");
    for name in &names {
        delete(env, name);
    }
    assert_eq!(template(env)["problem"], Value::Null);
}

fn manifest(env: &Env) -> PathBuf {
    let key = template(env)["key"].as_str().expect("a key").to_owned();
    env.home().join("templates").join(key).join("manifest.json")
}

/// A file of the template in the pool.
fn file(env: &Env, suffix: &str) -> PathBuf {
    let text = std::fs::read_to_string(manifest(env)).expect("the manifest");
    let saved: Value = serde_json::from_str(&text).expect("JSON");
    let id = saved["id"].as_str().expect("an id");
    pool_folder(env).join(format!("state-{id}.{suffix}"))
}

#[track_caller]
fn problem(env: &Env, words: &str) {
    let problem = template(env)["problem"].clone();
    assert!(
        problem.as_str().is_some_and(|p| p.contains(words)),
        "{words}: {problem}"
    );
    env.kubby(&["template", "list"]).ok();
}

fn a_bad_one_is_told(env: &Env) {
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
    let name = named(env, "n");
    let before = template(env);
    let mut child = env
        .kubby_command()
        .args(["start", "-p", &name, "--no-template", "--keep-context"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubby runs");
    let lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
    let mut seen = Vec::new();
    for line in lines.map_while(Result::ok) {
        seen.push(line);
        if seen
            .last()
            .is_some_and(|l| l.starts_with("==> Boot the node"))
        {
            kill_process(Pid::from_child(&child), Signal::INT).expect("a signal");
        }
    }
    let status = child.wait().expect("kubby ends");
    let seen = seen.join("\n");
    assert_eq!(status.code(), Some(130), "{seen}");
    assert!(seen.contains("==> Boot the node"), "{seen}");
    assert!(!seen.contains("template"), "{seen}");
    delete(env, &name);
    assert_eq!(template(env)["key"], before["key"]);
    assert_eq!(template(env)["created"], before["created"]);
}

fn a_cut_template_is_made_anew(env: &Env) {
    // Who runs on its memory would not survive this.
    delete(env, &named(env, "b"));
    let memory = file(env, "mem");
    let open = std::fs::File::options().write(true).open(&memory);
    open.and_then(|file| file.set_len(1 << 20)).expect("a cut");
    problem(env, "is cut");
    let name = named(env, "c");
    let (run, result) = start(env, &name);
    assert_eq!(result["fromTemplate"], false, "{result}");
    let run = run.says("cannot be used and is removed").says("is cut");
    run.says("Save a warm template");
    assert!(!memory.exists(), "{} is gone", memory.display());
    assert_eq!(template(env)["problem"], Value::Null);
    healthy(env, &name);
    delete(env, &name);
}

fn a_copy_lives_on_without_its_template(env: &Env) {
    let name = named(env, "b");
    let (_, result) = start(env, &name);
    assert_eq!(result["fromTemplate"], true, "{result}");
    mark(env, &name, "early");
    let key = template(env)["key"].as_str().expect("a key").to_owned();
    env.kubby(&["template", "delete", &key[..6]]).ok();
    env.kubby(&["template", "list"])
        .ok()
        .prints("There are no warm templates");
    healthy(env, &name);
    assert!(has_mark(env, &name, "early"));
    env.kubby_on(&name, &["stop"]).ok();
    let (run, result) = start(env, &name);
    eprintln!(
        "  an ordinary boot of a copy: {:.1} s",
        run.took.as_secs_f64()
    );
    assert_eq!(result["fromTemplate"], false, "{result}");
    healthy(env, &name);
    assert!(has_mark(env, &name, "early"));
    // It maps the template's memory no more, so that goes with the next that looks.
    env.kubby(&["template", "prune"]).ok();
    assert_eq!(state_files(env), Default::default());
}
