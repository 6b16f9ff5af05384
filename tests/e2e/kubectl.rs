//! kubectl's ways into pods.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::env::Env;
use crate::group::Test;
use crate::image;
use crate::program::{Run, Running};
use crate::services::{ready, says_hello, web};

pub const TESTS: &[Test] = tests![
    kubectl_runs_programs_in_pods,
    kubectl_copies_to_and_from_pods,
    kubectl_follows_logs_and_forwards_ports,
    kubectl_attaches_to_a_pod,
];

/// A kubectl whose lines are read with a deadline.
struct Reader {
    child: Running,
    lines: mpsc::Receiver<String>,
}

impl Reader {
    fn start(env: &Env, args: &[&str]) -> Self {
        let mut command = env.kubby_command();
        command
            .args(["-p", &env.profile, "kubectl", "--"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = Running::start(&mut command);
        let out = BufReader::new(child.child().stdout.take().expect("stdout"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Reader { child, lines }
    }

    #[track_caller]
    fn waits_for(&self, words: &str) {
        let end = Instant::now() + Duration::from_secs(90);
        let mut seen = Vec::new();
        while let Ok(line) = self
            .lines
            .recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            if line.contains(words) {
                return;
            }
            seen.push(line);
        }
        panic!("`{words}` did not come; what came: {seen:?}");
    }
}

fn kubectl_runs_programs_in_pods(env: &Env) {
    web(env);
    env.kubectl(&["exec", "web", "--", "echo", "from", "inside"])
        .ok()
        .prints("from inside");
    env.kubectl(&["exec", "web", "--", "app", "exit"]).exits(42);
    // Standard input to its end.
    let mut command = env.kubby_command();
    command
        .args([
            "-p",
            &env.profile,
            "kubectl",
            "--",
            "exec",
            "-i",
            "web",
            "--",
            "cat",
        ])
        .stdin(
            std::fs::File::open(file!())
                .or_else(|_| std::fs::File::open("Cargo.toml"))
                .expect("a file"),
        );
    assert!(!Run::of(command).ok().stdout.is_empty());
}

fn kubectl_copies_to_and_from_pods(env: &Env) {
    web(env);
    let here = env.root().join("sent.txt");
    std::fs::write(&here, "sent and fetched\n").expect("a file");
    let here = here.display().to_string();
    env.kubectl(&["cp", &here, "web:/tmp/there.txt"]).ok();
    env.kubectl(&["exec", "web", "--", "cat", "/tmp/there.txt"])
        .ok()
        .prints("sent and fetched");
    let back = env.root().join("back.txt");
    env.kubectl(&["cp", "web:/tmp/there.txt", &back.display().to_string()])
        .ok();
    assert_eq!(
        std::fs::read_to_string(&back).expect("the file"),
        "sent and fetched\n"
    );
}

fn kubectl_follows_logs_and_forwards_ports(env: &Env) {
    web(env);
    let logs = Reader::start(env, &["logs", "-f", "web"]);
    logs.waits_for("serving");
    let forward = Reader::start(env, &["port-forward", "service/inside", ":80"]);
    let line = forward
        .lines
        .recv_timeout(Duration::from_secs(60))
        .expect("kubectl says where");
    let address = line
        .split_whitespace()
        .find(|w| w.starts_with("127.0.0.1:"))
        .expect("an address");
    says_hello(&format!("http://{address}"));
    logs.waits_for("request /");
}

fn kubectl_attaches_to_a_pod(env: &Env) {
    image::load(env);
    env.kubectl(&[
        "run",
        "asked",
        "--image=kubby.dev/test:1",
        "--restart=Never",
        "-i",
        "--attach=false",
        "--command",
        "--",
        "lines",
    ])
    .ok();
    ready(env, "asked");
    let mut attach = Reader::start(env, &["attach", "-i", "asked"]);
    let stdin = attach.child.child().stdin.as_mut().expect("stdin");
    stdin.write_all(b"one\n").expect("sent");
    stdin.flush().expect("sent");
    attach.waits_for("got one");
    env.kubectl(&["delete", "pod", "asked", "--grace-period=1"])
        .ok();
}
