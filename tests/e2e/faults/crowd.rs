//! Many kubby processes at once, on one profile and on several.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::env::{Env, Run, Test};
use crate::saving::{delete, folder, healthy, named};

pub const TESTS: &[Test] = &[
    ("who_must_not_wait_is_told_for_whom", no_wait),
    ("a_crowd_starts_its_clusters", a_crowd_starts),
    ("a_crowd_deletes_one", a_crowd_deletes),
];

fn start(env: &Env, profile: &str) -> Command {
    let mut command = env.kubby_command();
    command
        .env("KUBBY_PROFILE", profile)
        .args(["start", "--keep-context", "-o", "json"]);
    command
}

/// A kubby that stands still at a place, until [`go_on`].
pub fn stand_still(mut command: Command, place: &str) -> Child {
    let child = command
        .env("KUBBY_FAULT", format!("{place}=stop"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubby runs");
    let until = Instant::now() + Duration::from_secs(180);
    loop {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("it runs");
        let state = state
            .rsplit_once(')')
            .expect("stat")
            .1
            .trim_start()
            .chars()
            .next();
        match state {
            Some('T') => return child,
            Some('Z') => panic!("kubby never came to {place}"),
            _ => assert!(Instant::now() < until, "kubby never came to {place}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Lets it go on, to its end.
pub fn go_on(child: Child) -> std::process::Output {
    kill_process(Pid::from_child(&child), Signal::CONT).expect("a signal");
    child.wait_with_output().expect("kubby ends")
}

fn no_wait(env: &Env) {
    let name = named(env, "w");
    let first = stand_still(start(env, &name), "after make the overlay");
    let mut second = start(env, &name);
    second.arg("--no-wait");
    let second = Run::of(second).exits(15).says("another kubby works on");
    assert!(second.stderr.contains(&format!("process {}", first.id())));
    assert!(second.took < Duration::from_secs(5), "{:?}", second.took);
    env.kubby_on(&name, &["delete", "--no-wait"]).exits(15);
    // What only looks never waits.
    env.kubby_on(&name, &["status"]).ok();
    env.kubby(&["list"]).ok();
    // Who waits can be interrupted.
    let waiting = start(env, &name)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubby runs");
    std::thread::sleep(Duration::from_millis(700));
    kill_process(Pid::from_child(&waiting), Signal::INT).expect("a signal");
    let waited = waiting.wait_with_output().expect("kubby ends");
    let text = String::from_utf8_lossy(&waited.stderr);
    assert_eq!(waited.status.code(), Some(130), "{text}");
    let words = format!(
        "waiting for another kubby that works on `{name}`: process {}",
        first.id()
    );
    assert!(text.contains(&words), "{text}");

    let first = go_on(first);
    assert!(
        first.status.success(),
        "{}",
        String::from_utf8_lossy(&first.stderr)
    );
    delete(env, &name);
}

/// Ten on one profile, and three other profiles beside it.
fn a_crowd_starts(env: &Env) {
    let names = ["w", "x", "y", "z"].map(|suffix| named(env, suffix));
    let crowd = std::iter::repeat_n(&names[0], 10).chain(&names[1..]);
    let began = Instant::now();
    let children: Vec<(&String, Child)> = crowd
        .map(|name| {
            let mut command = start(env, name);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            (name, command.spawn().expect("kubby runs"))
        })
        .collect();
    let ended: Vec<(&String, Value)> = children
        .into_iter()
        .map(|(name, child)| {
            let output = child.wait_with_output().expect("kubby ends");
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}: {}\n{text}", output.status);
            let result = serde_json::from_slice(&output.stdout).expect("JSON");
            (name, result)
        })
        .collect();
    eprintln!(
        "  10 starts of one profile and 3 of others: {:.1} s",
        began.elapsed().as_secs_f64()
    );
    let mut servers: Vec<&str> = Vec::new();
    for name in &names {
        let of_it = || {
            ended
                .iter()
                .filter(|(of, _)| *of == name)
                .map(|(_, result)| result)
        };
        let made = of_it().filter(|result| result["created"] == true).count();
        assert_eq!(made, 1, "{name} was made once");
        servers.extend(of_it().filter_map(|result| result["server"].as_str()));
        healthy(env, name);
    }
    servers.sort_unstable();
    servers.dedup();
    assert_eq!(servers.len(), names.len(), "{servers:?}");
    for name in &names[1..] {
        delete(env, name);
    }
}

/// Six at once delete the same cluster, and two more start it: whoever comes last decides.
fn a_crowd_deletes(env: &Env) {
    let name = named(env, "w");
    let children: Vec<Child> = (0..8)
        .map(|i| {
            let mut command = env.kubby_command();
            command.env("KUBBY_PROFILE", &name);
            if i % 4 == 3 {
                command.args(["start", "--keep-context"]);
            } else {
                command.arg("delete");
            }
            command.stdout(Stdio::null()).stderr(Stdio::piped());
            command.spawn().expect("kubby runs")
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().expect("kubby ends");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}\n{text}", output.status);
    }
    if folder(env, &name).exists() {
        healthy(env, &name);
    }
    delete(env, &name);
}
