//! Many kubby processes at once, on one profile and on several.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::env::Env;
use crate::group::Test;
use crate::program::{Run, Running};
use crate::saving::{delete, ensure, ensure_template, folder, healthy, named, template};

pub const TESTS: &[Test] = tests![
    waiting_names_the_other_process,
    a_crowd_starts_its_clusters,
    a_crowd_deletes_one,
];

fn start(env: &Env, profile: &str) -> Command {
    let mut command = env.kubby_command();
    command
        .env("KUBBY_PROFILE", profile)
        .args(["start", "--keep-context", "-o", "json"]);
    command
}

/// A kubby that stands still at a place, and is killed there when its test fails.
pub struct Stopped(Running);

impl Stopped {
    /// Runs kubby until it comes to the place.
    #[track_caller]
    pub fn at(mut command: Command, place: &str) -> Self {
        command
            .env("KUBBY_FAULT", format!("{place}=stop"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let kubby = Running::start(&mut command);
        let until = Instant::now() + Duration::from_secs(180);
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", kubby.id()));
            let stat = stat.expect("it runs");
            let state = stat.rsplit_once(')').expect("stat").1;
            match state.trim_start().chars().next() {
                Some('T') => return Stopped(kubby),
                Some('Z') => panic!("kubby never came to {place}"),
                _ => assert!(Instant::now() < until, "kubby never came to {place}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Lets it run to its end.
    pub fn resume(self) -> Output {
        self.0.signal(Signal::CONT);
        self.0.output()
    }
}

fn waiting_names_the_other_process(env: &Env) {
    let name = named(env, "w");
    let first = Stopped::at(start(env, &name), "after make the overlay");
    let mut second = start(env, &name);
    second.arg("--no-wait");
    let second = Run::of(second).exits(15).says("another kubby works on");
    assert!(second.stderr.contains(&format!("process {}", first.id())));
    assert!(second.took < Duration::from_secs(5), "{:?}", second.took);
    env.kubby_on(&name, &["delete", "--no-wait"]).exits(15);
    // What only looks never waits.
    env.kubby_on(&name, &["status"]).ok();
    env.kubby(&["list"]).ok();
    // One that waits can be interrupted.
    let mut waiting = start(env, &name);
    let waiting = Running::start(waiting.stdout(Stdio::null()).stderr(Stdio::piped()));
    std::thread::sleep(Duration::from_millis(700));
    waiting.signal(Signal::INT);
    let waited = waiting.output();
    let text = String::from_utf8_lossy(&waited.stderr);
    assert_eq!(waited.status.code(), Some(130), "{text}");
    let words = format!(
        "waiting for another kubby process that uses `{name}`: process {}",
        first.id()
    );
    assert!(text.contains(&words), "{text}");

    let first = first.resume();
    assert!(
        first.status.success(),
        "{}",
        String::from_utf8_lossy(&first.stderr)
    );
    delete(env, &name);
}

/// Ten on one profile, and two other profiles beside it, all of them from the template.
fn a_crowd_starts_its_clusters(env: &Env) {
    ensure_template(env);
    let names = ["w", "x", "y"].map(|suffix| named(env, suffix));
    let crowd = std::iter::repeat_n(&names[0], 10).chain(&names[1..]);
    let began = Instant::now();
    let children: Vec<(&String, Running)> = crowd
        .map(|name| {
            let mut command = start(env, name);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            (name, Running::start(&mut command))
        })
        .collect();
    let ended: Vec<(&String, Value)> = children
        .into_iter()
        .map(|(name, child)| {
            let output = child.output();
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}: {}\n{text}", output.status);
            let result = serde_json::from_slice(&output.stdout).expect("JSON");
            (name, result)
        })
        .collect();
    note!(
        "10 starts of one profile and 2 of others: {:.1} s",
        began.elapsed().as_secs_f64()
    );
    let mut servers: Vec<&str> = Vec::new();
    for name in &names {
        let of_it = ended.iter().filter(|(of, _)| *of == name);
        let of_it: Vec<&Value> = of_it.map(|(_, result)| result).collect();
        let mut made = of_it.iter().filter(|result| result["created"] == true);
        let first = made.next().expect("one start has made it");
        assert_eq!(first["fromTemplate"], true, "{first}");
        assert!(made.next().is_none(), "{name} was made twice: {ended:?}");
        servers.extend(of_it.iter().filter_map(|result| result["server"].as_str()));
        healthy(env, name);
    }
    servers.sort_unstable();
    servers.dedup();
    assert_eq!(servers.len(), names.len(), "each has its port: {servers:?}");
    for name in &names[1..] {
        delete(env, name);
    }
    assert_eq!(template(env)["problem"], Value::Null);
}

/// Six at once delete the same cluster, and two more start it: the last one decides.
fn a_crowd_deletes_one(env: &Env) {
    let name = named(env, "w");
    ensure(env, &name);
    let children: Vec<Running> = (0..8)
        .map(|i| {
            let mut command = env.kubby_command();
            command.env("KUBBY_PROFILE", &name);
            if i % 4 == 3 {
                command.args(["start", "--keep-context"]);
            } else {
                command.arg("delete");
            }
            Running::start(command.stdout(Stdio::null()).stderr(Stdio::piped()))
        })
        .collect();
    for child in children {
        let output = child.output();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}\n{text}", output.status);
    }
    if folder(env, &name).exists() {
        healthy(env, &name);
    }
    delete(env, &name);
}
