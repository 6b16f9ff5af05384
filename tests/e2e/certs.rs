//! Certificates as time passes: kubby and the node live in the future, the rest of the host does
//! not. kubby's clock is moved by libfaketime. It sets the clock of a node that resumes; one that
//! boots asks the host's real clock, so a unit in the node moves that by as much.

use std::path::PathBuf;

use kubby::testing::profile::FILE_VERSION;
use serde_json::Value;

use crate::env::Env;
use crate::group::Test;
use crate::program::Run;
use crate::saving::{delete, folder, healthy, kubectl, start, template};

pub const TESTS: &[Test] = tests![
    an_earlier_profile_is_taken_over,
    certificates_are_listed_and_renewed,
    a_cluster_resumes_after_its_certificates_have_ended.long(),
    a_killed_cluster_boots_after_its_certificates_have_ended,
];

/// The days after which all but the authorities' certificates have ended; another year has passed when
/// the node boots.
const RESUMES: u32 = 400;
const BOOTS: u32 = 800;

/// Makes the data that have to be there afterwards.
fn keep(env: &Env) {
    env.once("the data", || {
        let create = ["create", "configmap", "kept", "--from-literal=a=b"];
        kubectl(env, &env.profile, &create).ok();
    });
}

/// Runs kubby on the cluster, so many days from now.
fn later(env: &Env, days: u32, args: &[&str]) -> Run {
    let mut command = env.kubby_command();
    command
        .env("KUBBY_PROFILE", &env.profile)
        .env("LD_PRELOAD", faketime())
        .env("FAKETIME", format!("+{days}d"))
        // Waiting, and the times of files, stay as they are.
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("NO_FAKE_STAT", "1")
        .args(args);
    Run::of(command)
}

fn faketime() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").expect("/usr/lib");
    let mut paths = folders
        .flatten()
        .map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    paths
        .find(|path| path.exists())
        .expect("libfaketime, which scripts/setup --test installs")
}

/// Returns what `kubby certs list` says so many days from now: each name with why it is to be renewed.
#[track_caller]
fn list(env: &Env, days: u32) -> Vec<(String, Option<String>)> {
    let list = later(env, days, &["certs", "list", "-o", "json"]).ok();
    let list = list.json();
    let text = |v: &Value| v.as_str().map(str::to_owned);
    let all = list["certificates"].as_array().expect("a list").iter();
    all.map(|c| (text(&c["name"]).expect("a name"), text(&c["renewal"])))
        .collect()
}

#[track_caller]
fn due(env: &Env, days: u32) -> usize {
    let all = list(env, days);
    assert_eq!(all.len(), 18, "{all:?}");
    all.iter().filter(|(_, renewal)| renewal.is_some()).count()
}

/// Checks that everything runs in the future and what was written long ago is there. kubectl's clock
/// cannot be moved, so the node's own is asked, which lives in the same time.
#[track_caller]
fn healthy_then(env: &Env, days: u32) {
    later(env, days, &["status", "--exit-code"]).ok();
    let ask = "kubectl get configmap kept -o jsonpath='{.data.a} '; date -u +%s";
    let run = later(env, days, &["ssh", "--", ask]).ok();
    let (data, date) = run.stdout.split_once(' ').expect("two words");
    assert_eq!(data, "b");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let then = now.expect("after 1970").as_secs() + u64::from(days) * 24 * 3600;
    let date: u64 = date.trim().parse().expect("a time");
    assert!(
        date.abs_diff(then) < 60,
        "the node is in {date}, not {then}"
    );
    assert_eq!(due(env, days), 0);
}

/// Returns a profile in the form of version 1, which had one machine, in the file's root.
fn of_version_1(profile: &str) -> String {
    let mut table: toml::Table = profile.parse().expect("TOML");
    let toml::Value::Array(mut nodes) = table.remove("node").expect("nodes") else {
        panic!("no list of nodes: {profile}");
    };
    let mut moved = vec![nodes.remove(0), table.remove("spec").expect("settings")];
    let node = moved[0].as_table_mut().expect("a node");
    let machine = node.remove("machine").expect("a machine");
    node.retain(|key, _| !["name", "role", "number"].contains(&key));
    moved.push(machine);
    for part in moved {
        table.extend(part.try_into::<toml::Table>().expect("a table"));
    }
    table.insert("version".into(), 1.into());
    toml::to_string(&table).expect("TOML")
}

fn an_earlier_profile_is_taken_over(env: &Env) {
    let name = &env.profile;
    let path = folder(env, name).join("profile.toml");
    let text = std::fs::read_to_string(&path).expect("the profile");
    let version = format!("version = {FILE_VERSION}\n");
    assert!(text.starts_with(&version), "{text}");
    let earlier = of_version_1(&text);
    std::fs::write(&path, &earlier).expect("the profile");
    let (run, result) = start(env, name);
    assert_eq!(result["wasRunning"], true, "{result}");
    run.says(&format!("had version 1 and now has version {FILE_VERSION}"));
    assert_eq!(std::fs::read_to_string(&path).expect("the profile"), text);
    let kept = std::fs::read_to_string(path.with_extension("toml.v1"));
    assert_eq!(kept.expect("the earlier one"), earlier);
    healthy(env, name);
}

fn certificates_are_listed_and_renewed(env: &Env) {
    let name = &env.profile;
    keep(env);
    assert_eq!(due(env, 0), 0);
    assert_eq!(due(env, 340), 14, "all but the authorities");
    // A template is not used when its copies would have to renew what they begin with.
    let templates = later(env, 340, &["template", "list", "-o", "json"]).ok();
    let problem = templates.json()["templates"][0]["problem"].clone();
    let said = problem.as_str().is_some_and(|p| p.contains("ends soon"));
    assert!(said, "{problem}");
    assert_eq!(template(env)["problem"], Value::Null);

    let look = |command: &str| env.kubby_on(name, &["ssh", "--", command]).ok().stdout;
    let config = "cat /etc/kubernetes/kube-proxy.conf";
    let [restarted, left] = [
        "pgrep -x kube-proxy",
        "pgrep -x etcd; pgrep -x kube-apiserver",
    ];
    let before = [config, restarted, left].map(look);
    let earlier = env.root().join("earlier-kubeconfig");
    std::fs::copy(folder(env, name).join("kubeconfig"), &earlier).expect("a copy");
    let earlier = format!("--kubeconfig={}", earlier.display());
    kubectl(env, name, &[&earlier, "get", "configmap", "kept"]).ok();
    let renew = ["certs", "renew", "kube-proxy", "operator-ca", "-o", "json"];
    let renewal = env.kubby_on(name, &renew).ok();
    note!("certs renew: {:.1} s", renewal.took.as_secs_f64());
    let renewal = renewal.json();
    assert_eq!(
        renewal["renewed"],
        serde_json::json!(["operator-ca", "admin", "kube-proxy"])
    );
    assert_eq!(renewal["inUse"], true);
    let after = [config, restarted, left].map(look);
    assert_ne!(before[0], after[0], "the node has the new certificate");
    assert_ne!(before[1], after[1], "what uses it was restarted");
    assert_eq!(before[2], after[2], "what does not runs on");
    kubectl(env, name, &["get", "configmap", "kept"]).ok();
    let refused = kubectl(env, name, &[&earlier, "get", "configmap", "kept"]).exits(1);
    let reasons = ["Unauthorized", "must be logged in"];
    assert!(
        reasons.iter().any(|words| refused.stderr.contains(words)),
        "{}",
        refused.stderr
    );
    healthy(env, name);
    for bad in [&["renew", "nonsense"][..], &["renew", "--all", "admin"]] {
        env.kubby_on(name, &[&["certs"], bad].concat()).exits(2);
    }
}

/// Minutes, of a path that shares most of its code with the boot's.
fn a_cluster_resumes_after_its_certificates_have_ended(env: &Env) {
    keep(env);
    // The hardware's clock knows nothing of the future.
    let keeper = ["ssh", "--", "systemctl", "stop", "kubby-clock"];
    env.kubby(&keeper).ok();
    env.kubby(&["suspend"]).ok();
    assert_eq!(due(env, RESUMES), 14);
    let status = later(env, RESUMES, &["status", "-o", "json"]).ok().json();
    let due = status["certificatesDue"].as_array().map(Vec::len);
    assert_eq!(due, Some(14), "{status}");
    let run = later(env, RESUMES, &["start", "--keep-context", "-o", "json"]).ok();
    note!("resume in the future: {:.1} s", run.took.as_secs_f64());
    let run = run.says("Resume the machine done").says("it has ended");
    let renewed = run.json()["renewedCertificates"].as_array().map(Vec::len);
    assert_eq!(renewed, Some(14), "{}", run.stdout);
    healthy_then(env, RESUMES);
}

/// Lets the node's clock be ahead from its next boot on, before anything reads it.
const AHEAD: &str = "cat > /etc/systemd/system/ahead.service <<'END'
[Unit]
DefaultDependencies=no
Before=kubby-seed.service kubby-first.target etcd.service kube-apiserver.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/date -u -s '+DAYS days'
[Install]
WantedBy=sysinit.target
END
systemctl enable ahead.service && systemctl disable kubby-clock && sync";

/// Its power is cut before: what was written is there afterwards.
fn a_killed_cluster_boots_after_its_certificates_have_ended(env: &Env) {
    keep(env);
    let ahead = AHEAD.replace("DAYS", &BOOTS.to_string());
    later(env, RESUMES, &["ssh", "--", &ahead]).ok();
    env.virsh(&["destroy", &env.domain()]).ok();
    env.kubby(&["status", "-o", "json"]).ok().prints("Stopped");
    // What is renewed while the cluster is off waits for the next start on the host.
    let renewal = later(env, BOOTS, &["certs", "renew", "scheduler", "-o", "json"]);
    let renewal = renewal.ok().says("installs them in the node").json();
    assert_eq!(renewal["inUse"], false);
    assert_eq!(due(env, BOOTS), 0, "all were due");
    let run = later(env, BOOTS, &["start", "--keep-context", "-o", "json"]).ok();
    note!("boot in the future: {:.1} s", run.took.as_secs_f64());
    let changed = run.json()["changedFiles"].to_string();
    for path in ["scheduler.conf", "kubelet.conf", "pki/etcd/peer.crt"] {
        assert!(changed.contains(path), "{changed}");
    }
    healthy_then(env, BOOTS);
    delete(env, &env.profile);
}
