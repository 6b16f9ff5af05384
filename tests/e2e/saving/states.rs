//! Pausing, suspending and snapshots, on one cluster.

use super::{
    delete, folder, has_mark, healthy, host, kubectl, mark, named, start, states_beside_templates,
};
use crate::env::Env;
use crate::group::Test;

pub const TESTS: &[Test] = tests![
    a_paused_cluster_resumes,
    a_suspended_cluster_resumes,
    a_snapshot_takes_the_cluster_back,
    bad_snapshots_and_forks_change_nothing,
    a_stopped_cluster_has_snapshots_too,
];

fn a_paused_cluster_resumes(env: &Env) {
    let name = &env.profile;
    env.kubby_on(name, &["pause"]).ok();
    assert_eq!(host(env, name), "Paused");
    env.kubby_on(name, &["pause"]).ok().says("paused already");
    // Long enough that a clock that was not set would be noticed.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let run = env.kubby_on(name, &["resume"]).ok();
    note!("resume: {:.2} s", run.took.as_secs_f64());
    healthy(env, name);
    kubectl(env, name, &["get", "--raw", "/readyz"]).ok();
}

fn a_suspended_cluster_resumes(env: &Env) {
    let name = &env.profile;
    mark(env, name, "suspended");
    let boot = ["ssh", "--", "cat /proc/sys/kernel/random/boot_id"];
    let before = env.kubby_on(name, &boot).ok().stdout;
    let suspend = env.kubby_on(name, &["suspend"]).ok();
    assert_eq!(host(env, name), "Suspended");
    let list = env.kubby(&["list", "-o", "json"]).ok().json();
    let rows = list["profiles"].as_array().expect("a list");
    let row = rows.iter().find(|row| row["profile"] == name.as_str());
    let row = row.or_else(|| rows.iter().find(|row| row["name"] == name.as_str()));
    assert_eq!(row.expect("its row")["host"], "Suspended");
    env.virsh(&["domstate", &format!("kubby-{name}")])
        .ok()
        .prints("shut off");
    let again = env.kubby_on(name, &["suspend"]).ok();
    again.says("suspended already");
    env.kubby_on(name, &["ssh", "true"]).exits(13);

    let (resume, _) = start(env, name);
    note!(
        "suspend: {:.1} s, resume: {:.1} s",
        suspend.took.as_secs_f64(),
        resume.took.as_secs_f64()
    );
    healthy(env, name);
    assert!(has_mark(env, name, "suspended"));
    assert_eq!(env.kubby_on(name, &boot).ok().stdout, before);
    assert!(!folder(env, name).join("suspended").exists());
}

/// Returns the names that the list shows, each without a problem.
#[track_caller]
fn snapshots(env: &Env, profile: &str) -> Vec<String> {
    let list = env
        .kubby_on(profile, &["snapshot", "list", "-o", "json"])
        .ok()
        .json();
    let all = list["snapshots"].as_array().expect("a list").iter();
    all.map(|snapshot| {
        assert_eq!(snapshot["problem"], serde_json::Value::Null, "{list}");
        snapshot["name"].as_str().expect("a name").to_owned()
    })
    .collect()
}

/// Saves the snapshot `good`, unless it is there, which knows the mark `before`.
fn good(env: &Env) {
    let name = &env.profile;
    env.once("the snapshot", || {
        if !has_mark(env, name, "before") {
            mark(env, name, "before");
        }
        let save = env.kubby_on(name, &["snapshot", "save", "good"]).ok();
        note!("snapshot: {:.1} s", save.took.as_secs_f64());
    });
}

fn a_snapshot_takes_the_cluster_back(env: &Env) {
    let name = &env.profile;
    good(env);
    healthy(env, name);
    mark(env, name, "after");
    assert_eq!(snapshots(env, name), ["good"]);
    let restore = env.kubby_on(name, &["snapshot", "restore", "good"]).ok();
    note!("restore: {:.1} s", restore.took.as_secs_f64());
    healthy(env, name);
    assert!(has_mark(env, name, "before"));
    assert!(!has_mark(env, name, "after"));
    // It can be gone back to more than once.
    assert_eq!(snapshots(env, name), ["good"]);
}

fn bad_snapshots_and_forks_change_nothing(env: &Env) {
    let name = &env.profile;
    let boot = [
        "ssh",
        "--",
        "cat /proc/sys/kernel/random/boot_id; ls /dev/vd*",
    ];
    let before = env.kubby_on(name, &boot).ok().stdout;
    let unknown = format!("{name}-unknown");
    good(env);
    let fork = named(env, "f");
    let from = ["--from", "good", "--keep-context", "--no-start"];
    env.kubby(&[&["fork", fork.as_str()][..], &from].concat())
        .ok();
    for (profile, args, words) in [
        (name, &["snapshot", "save", "good"][..], "already"),
        (name, &["snapshot", "restore", "bad"], "no snapshot named"),
        (name, &["fork", "new", "--from", "bad"], "no snapshot named"),
        (&unknown, &["snapshot", "save", "good"], "no cluster named"),
        (
            &unknown,
            &["snapshot", "restore", "good"],
            "no cluster named",
        ),
        (&unknown, &["fork", "new"], "no cluster named"),
        (&unknown, &["suspend"], "no cluster named"),
        (&unknown, &["pause"], "no cluster named"),
    ] {
        env.kubby_on(profile, args)
            .exits(15)
            .says(words)
            .says("hint:");
    }
    let run = env.kubby_on(name, &["fork", &fork]).exits(15);
    run.says("already");
    delete(env, &fork);
    env.kubby_on(name, &["snapshot", "delete", "bad"]).ok();
    assert!(!folder(env, &unknown).exists() && !folder(env, "new").exists());
    assert_eq!(snapshots(env, name), ["good"]);
    assert_eq!(env.kubby_on(name, &boot).ok().stdout, before);
    env.kubby_on(name, &["snapshot", "delete", "good"]).ok();
    env.removed("the snapshot");
    assert_eq!(snapshots(env, name), Vec::<String>::new());
}

/// The way back from the stopped cluster to a running one is the other snapshot, which is quicker
/// than a boot.
fn a_stopped_cluster_has_snapshots_too(env: &Env) {
    let name = &env.profile;
    good(env);
    mark(env, name, "stopped");
    env.kubby_on(name, &["stop"]).ok();
    env.kubby_on(name, &["snapshot", "save", "off"]).ok();
    assert_eq!(host(env, name), "Stopped");
    env.kubby_on(name, &["snapshot", "restore", "good"]).ok();
    healthy(env, name);
    assert!(!has_mark(env, name, "stopped"));
    mark(env, name, "later");
    env.kubby_on(name, &["snapshot", "restore", "off"]).ok();
    healthy(env, name);
    assert!(has_mark(env, name, "before"));
    assert!(has_mark(env, name, "stopped"));
    assert!(!has_mark(env, name, "later"));
    delete(env, name);
    let left = states_beside_templates(env);
    assert_eq!(left, Default::default(), "all went with it");
}
