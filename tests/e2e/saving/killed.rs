//! kubby is killed while it saves, and everything begins again as if nothing had been.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::{delete, folder, has_mark, healthy, host, mark, named, start, states_beside_templates};
use crate::env::Env;
use crate::group::Test;
use crate::program::Running;

pub const TESTS: &[Test] = tests![
    a_killed_suspend_does_no_harm,
    a_killed_resume_does_no_harm,
    a_killed_snapshot_does_no_harm,
    a_killed_fork_does_no_harm,
    what_killed_ones_left_goes,
];

const MOMENTS: [u64; 3] = [100, 500, 1500];

fn begin(env: &Env, args: &[&str]) -> Running {
    let mut command = env.kubby_command();
    command
        .args(["-p", &env.profile])
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Running::start(&mut command)
}

/// Begins a command and kills it after so many milliseconds, if it is not done by then.
fn kill_after(env: &Env, args: &[&str], moment: u64) {
    let child = begin(env, args);
    std::thread::sleep(Duration::from_millis(moment));
    let status = child.kill();
    note!("{args:?} after {moment} ms: {status}");
}

/// Checks that the next start makes the cluster healthy, with its data.
#[track_caller]
fn comes_back(env: &Env) {
    let name = &env.profile;
    start(env, name);
    healthy(env, name);
    assert!(has_mark(env, name, "kept"));
}

/// Makes the data that have to be there afterwards.
fn keep(env: &Env) {
    if !has_mark(env, &env.profile, "kept") {
        mark(env, &env.profile, "kept");
    }
}

fn a_killed_suspend_does_no_harm(env: &Env) {
    keep(env);
    for moment in MOMENTS {
        kill_after(env, &["suspend"], moment);
        comes_back(env);
    }
}

/// Begins to resume a suspended cluster and kills kubby as soon as libvirt shows the machine, which
/// then waits for its memory, or has it and was not let go.
fn a_killed_resume_does_no_harm(env: &Env) {
    let name = &env.profile;
    keep(env);
    for _ in 0..2 {
        env.kubby_on(name, &["suspend"]).ok();
        let child = begin(env, &["start", "--keep-context"]);
        let until = Instant::now() + Duration::from_secs(30);
        let domain = format!("kubby-{name}");
        while matches!(
            env.virsh(&["domstate", &domain]).stdout.trim(),
            "" | "shut off"
        ) {
            assert!(Instant::now() < until, "the machine does not appear");
        }
        child.kill();
        note!("killed while the machine was {}", host(env, name));
        comes_back(env);
    }
}

fn a_killed_snapshot_does_no_harm(env: &Env) {
    let name = &env.profile;
    keep(env);
    for moment in MOMENTS {
        let snapshot = format!("at-{moment}");
        kill_after(env, &["snapshot", "save", &snapshot], moment);
        comes_back(env);
        let list = env
            .kubby_on(name, &["snapshot", "list", "-o", "json"])
            .ok()
            .json();
        // Whole or not there.
        for row in list["snapshots"].as_array().expect("a list") {
            assert_eq!(row["problem"], serde_json::Value::Null, "{list}");
        }
        env.kubby_on(name, &["snapshot", "delete", &snapshot]).ok();
    }
    // It still can, after all that.
    env.kubby_on(name, &["snapshot", "save", "whole"]).ok();
    healthy(env, name);
    env.kubby_on(name, &["snapshot", "delete", "whole"]).ok();
}

fn a_killed_fork_does_no_harm(env: &Env) {
    let name = &env.profile;
    keep(env);
    for moment in MOMENTS {
        let fork = named(env, &format!("f{moment}"));
        kill_after(env, &["fork", &fork, "--keep-context"], moment);
        comes_back(env);
        let list = env.kubby(&["list", "-o", "json"]).ok().json();
        let rows = list["profiles"].as_array().expect("a list");
        let broken = rows.iter().find(|row| row["host"] == "Broken");
        assert!(broken.is_none(), "{list}");
        // Again, and it works; or it is there already and the start continues with it.
        if folder(env, &fork).join("profile.toml").exists() {
            start(env, &fork);
        } else {
            env.kubby_on(name, &["fork", &fork, "--keep-context"]).ok();
        }
        healthy(env, &fork);
        assert!(has_mark(env, &fork, "kept"));
        delete(env, &fork);
    }
}

fn what_killed_ones_left_goes(env: &Env) {
    let name = &env.profile;
    let snapshots = std::fs::read_dir(folder(env, name).join("snapshots"));
    let left: Vec<_> = snapshots.into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    delete(env, name);
    assert_eq!(states_beside_templates(env), BTreeSet::new());
}
