//! Throwaway clusters: a command's code, limits, signals, what is left and what is kept.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::bundle::Unpacked;
use crate::env::Env;
use crate::group::Test;
use crate::program::{Run, Running, eventually};
use crate::saving::{folder, host, named};

pub const TESTS: &[Test] = tests![
    run_passes_the_code_on,
    run_ends_at_its_limit,
    run_ends_with_a_signal,
    run_cleans_up_a_start,
    run_keeps_what_failed,
    run_sweeps_and_keeps,
];

/// The seconds until the first run's command began.
static START: Mutex<Option<f64>> = Mutex::new(None);

/// Returns kubby without a terminal, so that signals come from the test alone.
fn command(env: &Env, args: &[&str]) -> Command {
    let plain = env.kubby_command();
    let mut command = Command::new("setsid");
    command.arg(plain.get_program()).args(args);
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// Begins a run, whose lines are for the reader of a failed test's log.
fn begin(env: &Env, args: &[&str]) -> Running {
    let mut command = command(env, args);
    Running::start(command.stdin(Stdio::null()).stdout(Stdio::null()))
}

/// Returns a file that a command makes.
fn file(env: &Env, name: &str) -> PathBuf {
    let path = env.root().join(name);
    let _ = std::fs::remove_file(&path);
    path
}

#[track_caller]
fn appears(path: &Path) {
    eventually(Duration::from_secs(120), "the command begins", || {
        path.exists().then_some(()).ok_or(path)
    });
}

#[track_caller]
fn ends(mut child: Running, limit: u64) -> Option<i32> {
    child.ends_within(Duration::from_secs(limit)).code()
}

/// Returns the throwaway clusters of this home.
fn throwaways(env: &Env) -> Vec<String> {
    let entries = std::fs::read_dir(env.home().join("profiles"));
    let names = entries.into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("run-")).collect()
}

#[track_caller]
fn nothing_is_left(env: &Env, name: &str) {
    assert_eq!(throwaways(env), Vec::<String>::new());
    assert!(!folder(env, name).exists());
    let domains = env.virsh(&["list", "--all", "--name"]).ok().stdout;
    let domain = format!("kubby-{name}");
    assert!(!domains.lines().any(|l| l.trim() == domain), "{domains}");
}

fn run_passes_the_code_on(env: &Env) {
    let kubeconfig = std::fs::read(env.kubeconfig()).ok();
    let logs = env.root().join("logs");
    let began = file(env, "began");
    let script = format!(
        "touch {}; kubectl get nodes --no-headers; echo $KUBECONFIG $KUBBY_PROFILE; cat; exit 7",
        began.display()
    );
    let mut child = command(
        env,
        &[
            "run",
            "--logs",
            logs.to_str().expect("a path"),
            "--",
            "sh",
            "-c",
            &script,
        ],
    );
    let input = file(env, "input");
    std::fs::write(&input, "from stdin\n").expect("a file");
    child.stdin(std::fs::File::open(&input).expect("a file"));
    let clock = Instant::now();
    let watch = {
        let began = began.clone();
        std::thread::spawn(move || {
            appears(&began);
            clock.elapsed().as_secs_f64()
        })
    };
    let run = Run::of(child).exits(7);
    let start = watch.join().expect("it began");
    note!(
        "the command began after {start:.1} s, all {:.1} s",
        run.took.as_secs_f64()
    );
    *START.lock().expect("the lock") = Some(start);
    // stdout is the command's alone.
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{}", run.stdout);
    assert!(
        lines[0].starts_with("kubby") && lines[0].contains(" Ready "),
        "{}",
        lines[0]
    );
    let (own, name) = lines[1].split_once(' ').expect("two words");
    assert_eq!(Path::new(own), folder(env, name).join("kubeconfig"));
    assert_eq!(lines[2], "from stdin");
    nothing_is_left(env, name);
    assert_eq!(std::fs::read(env.kubeconfig()).ok(), kubeconfig);
    let bundle = Unpacked::of(&logs.join(format!("{name}.tar.gz")));
    assert!(bundle.text("node/journal-kubelet.txt").contains("kubelet"));
    assert!(bundle.text("cluster/nodes.txt").contains("kubby"));
    std::fs::remove_dir_all(&logs).expect("removed");
}

/// Its limit is that of start and command together.
fn run_ends_at_its_limit(env: &Env) {
    let run = Run::of(command(env, &["run", "--timeout", "1", "--", "true"])).exits(124);
    run.says("was not ready within 1 s");
    nothing_is_left(env, "none");

    let start = START.lock().expect("the lock").unwrap_or(20.0);
    let limit = (2.0 * start + 8.0).ceil();
    let (began, name) = (file(env, "began"), named(env, "limit"));
    let script = format!("touch {}; sleep 300 & wait", began.display());
    let args = [
        "run",
        "-p",
        &name,
        "--timeout",
        &limit.to_string(),
        "--",
        "sh",
        "-c",
        &script,
    ];
    let run = Run::of(command(env, &args)).exits(124);
    let run = run.says("did not end within").says("--keep-on-failure");
    assert!(began.exists(), "{}", run.stderr);
    assert!(run.took.as_secs_f64() < limit + 20.0, "{:?}", run.took);
    nothing_is_left(env, &name);
}

fn run_ends_with_a_signal(env: &Env) {
    let (began, heard, name) = (file(env, "began"), file(env, "heard"), named(env, "int"));
    let script = format!(
        "trap 'touch {}; exit 3' INT; touch {}; while :; do sleep 0.1; done",
        heard.display(),
        began.display()
    );
    let child = begin(env, &["run", "-p", &name, "--", "sh", "-c", &script]);
    appears(&began);
    assert_eq!(host(env, &name), "Running");
    child.signal(Signal::INT);
    // As CI systems do: kubby continues its work.
    std::thread::sleep(Duration::from_millis(300));
    child.signal(Signal::TERM);
    assert_eq!(ends(child, 20), Some(130));
    assert!(heard.exists(), "the command got the signal");
    nothing_is_left(env, &name);
}

fn run_cleans_up_a_start(env: &Env) {
    let name = named(env, "term");
    let child = begin(env, &["run", "-p", &name, "--", "true"]);
    let domain = format!("kubby-{name}");
    eventually(Duration::from_secs(60), "the machine appears", || {
        let state = env.virsh(&["domstate", &domain]);
        (state.code == 0).then_some(()).ok_or(state.stderr)
    });
    child.signal(Signal::TERM);
    assert_eq!(ends(child, 20), Some(143));
    nothing_is_left(env, &name);
}

fn run_keeps_what_failed(env: &Env) {
    let name = named(env, "failed");
    let run = |code: &str| {
        let flag = "--keep-on-failure";
        let args = ["run", "-p", &name, flag, "--", "sh", "-c", code];
        Run::of(command(env, &args))
    };
    let left = run("exit 3").exits(3);
    left.says(&format!("kubby delete -p {name}"));
    assert_eq!(host(env, &name), "Running");
    env.kubby_on(&name, &["status", "--exit-code"]).ok();
    env.kubby_on(&name, &["delete"]).ok();
    run("exit 0").ok();
    nothing_is_left(env, &name);
}

/// Returns the name of a cluster that its run has kept, after it was made where it was not there.
pub fn kept(env: &Env) -> String {
    let name = named(env, "keep");
    if !folder(env, &name).exists() {
        let args = ["run", "-p", &name, "--keep", "--", "true"];
        Run::of(command(env, &args)).ok();
    }
    name
}

fn run_sweeps_and_keeps(env: &Env) {
    let began = file(env, "began");
    let script = format!("touch {}; exec sleep 60", began.display());
    let child = begin(env, &["run", "--", "sh", "-c", &script]);
    appears(&began);
    // One that runs is not swept.
    env.kubby_on("nothing", &["delete"]).ok();
    let left = throwaways(env);
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(child.kill().code(), None);
    assert_eq!(host(env, &left[0]), "Running");

    let kubeconfig = std::fs::read(env.kubeconfig()).ok();
    let name = named(env, "keep");
    let args = [
        "run", "-p", &name, "--keep", "--", "kubectl", "get", "nodes",
    ];
    let run = Run::of(command(env, &args)).ok().prints("kubby");
    let run = run
        .says("has ended")
        .says(&format!("kubby delete -p {name}"));
    assert!(run.stderr.contains("export KUBECONFIG="), "{}", run.stderr);
    nothing_is_left(env, &left[0]);
    assert_eq!(std::fs::read(env.kubeconfig()).ok(), kubeconfig);
    env.kubby_on(&name, &["status", "--exit-code"]).ok();
    Run::of(command(env, &args)).exits(15).says("already");
    env.kubby_on("nothing", &["delete"]).ok();
    assert_eq!(host(env, &name), "Running", "what is kept is not swept");
}
