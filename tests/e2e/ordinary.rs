//! A user without privileges, groups or a system daemon has a cluster on `qemu:///session`, and what
//! happens to it when a start is interrupted, and when the user's libvirt and the host go down.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::env::Env;
use crate::faults::crowd::Stopped;
use crate::group::{ROOT, Test};
use crate::program::{Run, Running};
use crate::user::{User, tool};

pub const TESTS: &[Test] = tests![
    a_start_survives_the_end_of_libvirt.needs(ROOT),
    an_interrupted_start_can_be_continued,
    an_ordinary_user_has_a_cluster.needs(ROOT),
    a_cluster_outlives_its_host.needs(ROOT),
];

/// The user of this group's tests.
static USER: Mutex<Option<User>> = Mutex::new(None);

/// Removes the user with all that the tests have made.
pub fn end() {
    drop(place().take());
}

fn place() -> MutexGuard<'static, Option<User>> {
    USER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a test as the user, who is made for the first of them. After a test that failed there is
/// another one for the next.
fn as_user(env: &Env, test: impl FnOnce(&User)) {
    let user = place().take().unwrap_or_else(|| {
        let user = User::new();
        equip(env, &user);
        user
    });
    test(&user);
    *place() = Some(user);
}

/// Gives the user the program and what it would otherwise build for minutes.
fn equip(env: &Env, user: &User) {
    let program = user.home.join("kubby");
    std::fs::copy(env!("CARGO_BIN_EXE_kubby"), &program).expect("a copy");
    user.own(&program);
    let assets = env
        .kubby(&["start", "--download-only", "-o", "json"])
        .ok()
        .json();
    let cache = user.home.join(".cache/kubby");
    for (kind, file) in [("node-images", "nodeImage"), ("components", "components")] {
        let entry = Path::new(assets[file].as_str().expect("a path")).parent();
        let entry = entry.expect("a folder").to_string_lossy().into_owned();
        let to = cache.join(kind);
        std::fs::create_dir_all(&to).expect("a folder");
        tool("cp", &["-r", &entry, &to.to_string_lossy()]).ok();
    }
    let all = user.home.join(".cache");
    let owner = format!("{0}:{0}", user.name);
    tool("chown", &["-R", &owner, &all.to_string_lossy()]).ok();
}

const START: [&str; 4] = ["start", "--no-template", "-o", "json"];

/// The user's libvirt ends while a start runs, which says so, or does not even notice.
fn a_start_survives_the_end_of_libvirt(env: &Env) {
    as_user(env, |user| {
        let mut command = user.kubby_command();
        command.args(START);
        let kubby = Stopped::at(command, "after make the overlay");
        assert!(user.end("libvirtd", Signal::KILL) + user.end("virtqemud", Signal::KILL) > 0);
        let output = kubby.resume();
        let text = String::from_utf8_lossy(&output.stderr);
        note!("without libvirt the start ended with {}", output.status);
        assert!(matches!(output.status.code(), Some(0 | 12)), "{text}");
    });
}

/// Ctrl-C while the machine boots: the documented code, and a state that the next start continues
/// from.
fn an_interrupted_start_can_be_continued(env: &Env) {
    match (ROOT.is_met)() {
        true => as_user(env, |user| interrupt(|| user.kubby_command())),
        false => interrupt(|| env.kubby_command()),
    }
}

fn interrupt(kubby: impl Fn() -> Command) {
    let run = |args: &[&str]| {
        let mut command = kubby();
        command.args(args);
        Run::of(command).ok()
    };
    run(&["delete"]);
    let mut command = kubby();
    command
        .args(START)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut start = Running::start(&mut command);
    let stderr = start.child().stderr.take().expect("stderr");
    let mut lines = BufReader::new(stderr).lines();
    let booting = lines.any(|line| line.is_ok_and(|l| l.starts_with("==> Boot the node")));
    assert!(booting, "the node never booted");
    start.signal(Signal::INT);
    let began = Instant::now();
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    let status = start.ends_within(Duration::from_secs(60));
    assert_eq!(status.code(), Some(130), "{}", rest.join("\n"));
    let took = began.elapsed();
    assert!(took.as_secs() < 5, "it took {took:?} to stop");
    let host = run(&["status", "-o", "json"]).json()["host"].clone();
    assert_eq!(host, "Running", "the machine is left as it is");

    let start = run(&START);
    note!(
        "start, from an interrupted one: {:.1} s",
        start.took.as_secs_f64()
    );
    let result = start.json();
    assert_eq!(result["kind"], "Start");
    assert_eq!(result["kubernetesVersion"], "v1.37.2");
    assert_eq!(result["currentContext"], true);
    let nodes = run(&["kubectl", "--", "get", "nodes", "--no-headers"]).stdout;
    let words: Vec<&str> = nodes.split_whitespace().collect();
    assert_eq!(words[..3], ["kubby", "Ready", "control-plane"], "{nodes}");
    assert_eq!(words[4], "v1.37.2", "{nodes}");
}

fn kubectl(user: &User, args: &[&str]) -> Run {
    user.kubby(&[&["kubectl", "--"], args].concat())
}

/// Starts the user's cluster, unless it runs.
fn ensure_cluster(user: &User) {
    let run = user.kubby(&START).ok();
    note!("start: {:.1} s", run.took.as_secs_f64());
}

fn an_ordinary_user_has_a_cluster(env: &Env) {
    as_user(env, |user| {
        let mut command = user.command("id");
        command.arg("-G");
        let groups = Run::of(command).ok().stdout;
        let own = user.id.to_string();
        assert_eq!(groups.trim(), own, "in no group but their own");
        ensure_cluster(user);
        let status = user.kubby(&["status", "-o", "json"]).ok().json();
        for part in ["host", "kubelet", "apiserver"] {
            assert_eq!(status[part], "Running", "{status}");
        }
        assert_eq!(status["kubeconfig"], "Configured");
        let list = user.kubby(&["list", "-o", "json"]).ok().stdout;
        assert!(
            list.contains("qemu:///session") || !list.contains("qemu:///system"),
            "{list}"
        );
        looks_inside(user);
        uses_kubectl(user);
    });
}

/// The commands of `kubby ssh` that a newcomer types.
fn looks_inside(user: &User) {
    let looks = "pgrep -l etcd && pgrep -l kube-apiserver && pgrep -l kube-scheduler && pgrep -l controller";
    let seen = user.kubby(&["ssh", "--", looks]).ok().stdout;
    assert_eq!(seen.lines().count(), 4, "{seen}");
    let looks = "pgrep -l kubelet && pgrep -l kube-proxy";
    let seen = user.kubby(&["ssh", "--", looks]).ok().stdout;
    assert_eq!(seen.lines().count(), 2, "{seen}");
    user.kubby(&["ssh", "--", "exit 7"]).exits(7);
}

/// The commands of kubectl that a newcomer types.
fn uses_kubectl(user: &User) {
    let config = [
        "config",
        "use-context",
        "kubby",
        "--kubeconfig",
        ".kube/config",
    ];
    kubectl(user, &config).ok();
    let nodes = kubectl(user, &["get", "nodes", "--no-headers"]).ok().stdout;
    let words: Vec<&str> = nodes.split_whitespace().collect();
    assert_eq!(words[..3], ["kubby", "Ready", "control-plane"], "{nodes}");
    let node = kubectl(user, &["describe", "node", "kubby"]).ok().stdout;
    for part in [
        "Roles:",
        "Labels:",
        "Conditions:",
        "Capacity:",
        "Allocatable:",
        "System Info:",
    ] {
        assert!(node.contains(part), "{part}: {node}");
    }
    let resources = kubectl(user, &["api-resources", "-o", "name"]).ok().stdout;
    assert!(
        resources.lines().any(|line| line == "deployments.apps"),
        "{resources}"
    );
}

/// The host goes down and comes back: neither QEMU nor libvirt runs any more.
fn a_cluster_outlives_its_host(env: &Env) {
    as_user(env, |user| {
        ensure_cluster(user);
        kubectl(user, &["create", "namespace", "kept"]).ok();
        assert_eq!(user.end("qemu-system", Signal::KILL), 1);
        user.end("libvirtd", Signal::KILL);
        user.end("virtqemud", Signal::KILL);
        let status = user.kubby(&["status", "-o", "json"]).ok().json();
        assert_eq!(status["host"], "Stopped", "{status}");
        let run = user.kubby(&["start"]).ok();
        note!("after the host was down: {:.1} s", run.took.as_secs_f64());
        kubectl(user, &["get", "namespace", "kept"]).ok();

        user.kubby(&["delete"]).ok();
        assert!(!user.home.join(".local/share/kubby").exists());
        assert!(!user.home.join(".kube/config").exists());
        let mut virsh = user.command("virsh");
        virsh.args(["-c", "qemu:///session", "list", "--all", "--name"]);
        assert_eq!(Run::of(virsh).ok().stdout.trim(), "");
    });
}
