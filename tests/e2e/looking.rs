//! Exercise 2: looking into the node.

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::env::Env;
use crate::group::Test;
use crate::program::{Run, Running, eventually};
use crate::saving;

pub const TESTS: &[Test] = tests![
    status_shows_what_runs_in_a_second,
    ssh_shows_the_processes,
    ssh_knows_sudo,
    ssh_keeps_streams_and_codes_apart,
    ssh_passes_stdin_on,
    ssh_opens_a_shell_on_a_terminal,
    logs_show_journals,
    ports_are_shown,
    a_node_whose_host_slept_knows_the_time_again,
    list_knows_the_cluster,
    secrets_are_private,
];

fn status_shows_what_runs_in_a_second(env: &Env) {
    let status = env.kubby(&["status", "-o", "json"]).ok();
    let value = status.json();
    for part in ["host", "kubelet", "apiserver"] {
        assert_eq!(value[part], "Running", "{part}: {value}");
    }
    assert_eq!(value["kubeconfig"], "Configured");
    // The best of three, since other programs run on this machine as well.
    let best = (0..3)
        .map(|_| env.kubby(&["status"]).ok().took)
        .min()
        .expect("three runs");
    note!("status: {:.2} s", best.as_secs_f64());
    assert!(best.as_secs_f64() < 1.0, "status took {best:?}");
    env.kubby(&["status"])
        .ok()
        .prints("host: Running\nkubelet: Running\napiserver: Running\nkubeconfig: Configured\n");
    env.kubby(&["status", "--exit-code"]).ok();
}

fn ssh_shows_the_processes(env: &Env) {
    let four = "pgrep -l etcd && pgrep -l kube-apiserver && pgrep -l kube-scheduler && pgrep -l controller";
    let run = env.kubby(&["ssh", "--", four]).ok();
    assert_eq!(run.stdout.lines().count(), 4, "{}", run.stdout);
    let run = env
        .kubby(&["ssh", "--", "pgrep -l kubelet && pgrep -l kube-proxy"])
        .ok();
    assert_eq!(run.stdout.lines().count(), 2, "{}", run.stdout);
    env.kubby(&["ssh", "--", "pgrep", "-l", "etcd"])
        .ok()
        .prints("etcd");
}

/// What guides type works, and says nothing of its own.
fn ssh_knows_sudo(env: &Env) {
    let sudo = env.kubby(&["ssh", "--", "sudo", "id", "-u"]).ok();
    assert_eq!((sudo.stdout.as_str(), sudo.stderr.as_str()), ("0\n", ""));
}

fn ssh_keeps_streams_and_codes_apart(env: &Env) {
    env.kubby(&["ssh", "--", "exit 7"]).exits(7);
    env.kubby(&["ssh", "--", "exit", "7"]).exits(7);
    let run = env
        .kubby(&["ssh", "--", "echo out; echo err >&2; false"])
        .exits(1);
    assert_eq!(
        (run.stdout.as_str(), run.stderr.as_str()),
        ("out\n", "err\n")
    );
    env.kubby(&["ssh", "--", "kill -TERM $$"]).exits(143);
}

fn ssh_passes_stdin_on(env: &Env) {
    let mut command = env.kubby_command();
    command.args(["-p", &env.profile, "ssh", "--", "sha256sum"]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("kubby runs");
    let data = vec![b'x'; 1 << 20];
    child
        .stdin
        .take()
        .expect("stdin")
        .write_all(&data)
        .expect("stdin takes it");
    let output = child.wait_with_output().expect("kubby ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // SHA-256 of 1 MiB of `x`.
    let expected = {
        use sha2::{Digest, Sha256};
        Sha256::digest(&data)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect::<String>()
    };
    assert!(
        text.starts_with(&expected),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn ssh_opens_a_shell_on_a_terminal(env: &Env) {
    // `script` gives kubby a terminal and types into it.
    let mut command = std::process::Command::new("script");
    let kubby = env!("CARGO_BIN_EXE_kubby");
    command
        .args([
            "-qec",
            &format!("{kubby} -p {} ssh", env.profile),
            "/dev/null",
        ])
        .env("KUBBY_HOME", env.home())
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut script = Running::start(&mut command);
    let mut stdin = script.child().stdin.take().expect("stdin");
    let mut stdout = script.child().stdout.take().expect("stdout");
    let mut text = String::new();
    // The shell's prompt, and then all that comes.
    while !text.contains("# ") {
        let mut part = [0; 1024];
        let length = stdout.read(&mut part).expect("what is shown");
        assert_ne!(length, 0, "no prompt: {text}");
        text.push_str(&String::from_utf8_lossy(&part[..length]));
    }
    stdin
        .write_all(b"tty && hostname && exit 3\n")
        .expect("typing");
    stdout.read_to_string(&mut text).expect("what is shown");
    let status = script.ends_within(Duration::from_secs(60));
    assert!(
        text.contains("/dev/pts/") && text.contains("kubby"),
        "{text}"
    );
    assert_eq!(status.code(), Some(3), "{text}");
}

fn logs_show_journals(env: &Env) {
    let logs = env.kubby(&["logs", "kubelet", "-n", "5"]).ok();
    assert!(logs.stdout.lines().count() >= 5, "{}", logs.stdout);
    env.kubby(&["logs", "nonsense"]).exits(2);
}

fn ports_are_shown(env: &Env) {
    let ports = env.kubby(&["port", "-o", "json"]).ok().json();
    let api = ports["api"].as_u64().expect("a port");
    assert_eq!(env.kubby(&["port", "api"]).ok().stdout, format!("{api}\n"));
    assert_eq!(env.kubby(&["ip"]).ok().stdout, "127.0.0.1\n");
    // On the loopback, and nowhere else.
    let listeners = Run::of({
        let mut ss = std::process::Command::new("ss");
        ss.args(["-Hltn"]);
        ss
    })
    .ok();
    let ours: Vec<&str> = listeners
        .stdout
        .lines()
        .filter(|l| l.contains(&format!(":{api} ")))
        .collect();
    assert!(
        !ours.is_empty() && ours.iter().all(|l| l.contains("127.0.0.1")),
        "{ours:?}"
    );
}

fn list_knows_the_cluster(env: &Env) {
    let list = env.kubby(&["list", "-o", "json"]).ok().json();
    assert_eq!(list["profiles"][0]["profile"], env.profile.as_str());
    assert_eq!(list["profiles"][0]["host"], "Running");
    env.kubby(&["ls"]).ok().prints(&env.profile);
}

fn secrets_are_private(env: &Env) {
    use std::os::unix::fs::MetadataExt;
    let mut folders = vec![env.home()];
    let mut keys = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let meta = std::fs::symlink_metadata(&path).expect("metadata");
            if meta.is_dir() {
                assert_eq!(meta.mode() & 0o077, 0, "{} is open", path.display());
                folders.push(path);
                continue;
            }
            let text = std::fs::read(&path).unwrap_or_default();
            if String::from_utf8_lossy(&text).contains("PRIVATE KEY")
                || path.ends_with("kubeconfig")
            {
                keys += 1;
                assert_eq!(meta.mode() & 0o177, 0, "{} is open", path.display());
            }
        }
    }
    assert!(keys > 10, "found {keys} keys only");
    // No secret travels in an argument list: every user can read QEMU's.
    let ps = Run::of({
        let mut ps = std::process::Command::new("ps");
        ps.args(["-eo", "args"]);
        ps
    });
    assert!(!ps.stdout.contains("PRIVATE KEY"));
}

/// A machine that another program than kubby lets stand still is like one whose host sleeps: its clock
/// stands still, and it does not hear of it.
fn a_node_whose_host_slept_knows_the_time_again(env: &Env) {
    let settings = || {
        let journal = "journalctl -q -u kubby-clock -g 'clock was off' | wc -l";
        let run = env.kubby(&["ssh", "--", journal]).ok();
        run.stdout.trim().parse::<u32>().expect("a number")
    };
    let before = settings();
    env.virsh(&["suspend", &env.domain()]).ok();
    std::thread::sleep(Duration::from_secs(4));
    env.virsh(&["resume", &env.domain()]).ok();
    let began = Instant::now();
    eventually(
        Duration::from_secs(60),
        "the clock is set",
        || match settings() {
            now if now > before => Ok(()),
            _ => Err("not yet"),
        },
    );
    note!(
        "the clock is right after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    saving::clock_is_right(env, &env.profile);
}
