//! Pausing, suspending and snapshots, on one cluster.

use std::fs::FileTimes;
use std::time::SystemTime;

use super::{
    delete, folder, has_mark, healthy, host, kubectl, mark, named, pool_folder, start, state_files,
};
use crate::env::{Env, Test};

pub const TESTS: &[Test] = &[
    ("a_paused_cluster_goes_on", a_paused_cluster_goes_on),
    ("a_suspended_cluster_wakes", a_suspended_cluster_wakes),
    (
        "a_disk_that_went_on_is_booted_from",
        a_disk_that_went_on_is_booted_from,
    ),
    (
        "a_snapshot_takes_the_cluster_back",
        a_snapshot_takes_the_cluster_back,
    ),
    (
        "bad_snapshots_and_forks_change_nothing",
        bad_ones_change_nothing,
    ),
    (
        "a_stopped_cluster_has_snapshots_too",
        a_stopped_cluster_has_snapshots_too,
    ),
];

fn name(env: &Env) -> String {
    named(env, "b")
}

fn a_paused_cluster_goes_on(env: &Env) {
    let name = name(env);
    start(env, &name);
    env.kubby_on(&name, &["pause"]).ok();
    assert_eq!(host(env, &name), "Paused");
    env.kubby_on(&name, &["pause"]).ok().says("paused already");
    // Long enough that a clock that was not told would be found out.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let run = env.kubby_on(&name, &["resume"]).ok();
    eprintln!("  resume: {:.2} s", run.took.as_secs_f64());
    healthy(env, &name);
    kubectl(env, &name, &["get", "--raw", "/readyz"]).ok();
}

fn a_suspended_cluster_wakes(env: &Env) {
    let name = name(env);
    mark(env, &name, "suspended");
    let boot = ["ssh", "--", "cat /proc/sys/kernel/random/boot_id"];
    let before = env.kubby_on(&name, &boot).ok().stdout;
    let suspend = env.kubby_on(&name, &["suspend"]).ok();
    assert_eq!(host(env, &name), "Suspended");
    let list = env.kubby(&["list", "-o", "json"]).ok().json();
    let rows = list["profiles"].as_array().expect("a list");
    let row = rows.iter().find(|row| row["profile"] == name.as_str());
    let row = row.or_else(|| rows.iter().find(|row| row["name"] == name.as_str()));
    assert_eq!(row.expect("its row")["host"], "Suspended");
    env.virsh(&["domstate", &format!("kubby-{name}")])
        .ok()
        .prints("shut off");
    let again = env.kubby_on(&name, &["suspend"]).ok();
    again.says("suspended already");
    env.kubby_on(&name, &["ssh", "true"]).exits(13);

    let (wake, _) = start(env, &name);
    eprintln!(
        "  suspend: {:.1} s, wake: {:.1} s",
        suspend.took.as_secs_f64(),
        wake.took.as_secs_f64()
    );
    healthy(env, &name);
    assert!(has_mark(env, &name, "suspended"));
    assert_eq!(env.kubby_on(&name, &boot).ok().stdout, before);
    assert!(!folder(env, &name).join("suspended").exists());
}

fn a_disk_that_went_on_is_booted_from(env: &Env) {
    let name = name(env);
    env.kubby_on(&name, &["suspend"]).ok();
    let profile = std::fs::read_to_string(folder(env, &name).join("suspended/manifest.json"))
        .expect("the manifest");
    let saved: serde_json::Value = serde_json::from_str(&profile).expect("JSON");
    let disk = pool_folder(env).join(saved["disk"].as_str().expect("a name"));
    let file = std::fs::File::options().write(true).open(disk);
    let times = FileTimes::new().set_modified(SystemTime::now());
    file.and_then(|file| file.set_times(times))
        .expect("a touch");
    let (run, _) = start(env, &name);
    run.says("was changed since").says("boots from its disk");
    healthy(env, &name);
    assert!(has_mark(env, &name, "suspended"));
}

/// The names that the list shows, each without a problem.
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

fn a_snapshot_takes_the_cluster_back(env: &Env) {
    let name = name(env);
    mark(env, &name, "before");
    let save = env.kubby_on(&name, &["snapshot", "save", "good"]).ok();
    healthy(env, &name);
    mark(env, &name, "after");
    assert_eq!(snapshots(env, &name), ["good"]);
    let restore = env.kubby_on(&name, &["snapshot", "restore", "good"]).ok();
    eprintln!(
        "  snapshot: {:.1} s, restore: {:.1} s",
        save.took.as_secs_f64(),
        restore.took.as_secs_f64()
    );
    healthy(env, &name);
    assert!(has_mark(env, &name, "before"));
    assert!(!has_mark(env, &name, "after"));
    // It can be gone back to more than once.
    assert_eq!(snapshots(env, &name), ["good"]);
}

fn bad_ones_change_nothing(env: &Env) {
    let name = name(env);
    let boot = [
        "ssh",
        "--",
        "cat /proc/sys/kernel/random/boot_id; ls /dev/vd*",
    ];
    let before = env.kubby_on(&name, &boot).ok().stdout;
    let unknown = format!("{name}-unknown");
    for (profile, args, words) in [
        (&name, &["snapshot", "save", "good"][..], "already"),
        (&name, &["snapshot", "restore", "bad"], "no snapshot named"),
        (
            &name,
            &["fork", "new", "--from", "bad"],
            "no snapshot named",
        ),
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
    let own = named(env, "a");
    let run = env.kubby_on(&name, &["fork", &own]).exits(15);
    run.says("already");
    env.kubby_on(&name, &["snapshot", "delete", "bad"]).ok();
    assert!(!folder(env, &unknown).exists() && !folder(env, "new").exists());
    assert_eq!(snapshots(env, &name), ["good"]);
    assert_eq!(env.kubby_on(&name, &boot).ok().stdout, before);
    env.kubby_on(&name, &["snapshot", "delete", "good"]).ok();
    assert_eq!(snapshots(env, &name), Vec::<String>::new());
}

fn a_stopped_cluster_has_snapshots_too(env: &Env) {
    let name = name(env);
    env.kubby_on(&name, &["stop"]).ok();
    env.kubby_on(&name, &["snapshot", "save", "off"]).ok();
    assert_eq!(host(env, &name), "Stopped");
    start(env, &name);
    mark(env, &name, "later");
    env.kubby_on(&name, &["snapshot", "restore", "off"]).ok();
    healthy(env, &name);
    assert!(has_mark(env, &name, "before"));
    assert!(!has_mark(env, &name, "later"));
    delete(env, &name);
    assert_eq!(state_files(env), Default::default(), "all went with it");
}
