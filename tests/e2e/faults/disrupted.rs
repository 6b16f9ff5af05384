//! Failures in the middle of what kubby builds on: QEMU, the machine, SSH, a component, the disk, the
//! clock.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::crowd::Stopped;
use crate::env::Env;
use crate::group::Test;
use crate::program::eventually;
use crate::saving::{delete, has_mark, healthy, kubectl, mark, named, start};

pub const TESTS: &[Test] = tests![
    a_frozen_machine_is_noticed_and_thaws,
    a_start_survives_a_dropped_connection,
    killed_components_come_back,
    a_full_node_recovers,
    a_clock_that_jumped_is_set_right,
    qemu_dies_before_the_machine_runs.long(),
    qemu_dies_while_a_start_runs.long(),
];

/// Returns the process of a cluster's QEMU, by the name of its domain.
pub fn qemu(domain: &str) -> Pid {
    let guest = format!("guest={domain},");
    let of_it = |entry: std::fs::DirEntry| {
        let id: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let mut words = line.split(|byte| *byte == 0);
        words
            .any(|word| word.starts_with(guest.as_bytes()))
            .then(|| Pid::from_raw(id))?
    };
    let found = std::fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .find_map(of_it);
    found.unwrap_or_else(|| panic!("no QEMU of {domain} runs"))
}

/// Makes the data that have to be there afterwards.
fn keep(env: &Env) {
    if !has_mark(env, &env.profile, "before") {
        mark(env, &env.profile, "before");
    }
}

fn in_node(env: &Env, script: &str) -> crate::program::Run {
    env.kubby(&["ssh", "--", script])
}

/// Kills QEMU while a start stands still at a place. The start says what happened or starts the node
/// again by itself, and the next one completes.
fn qemu_dies_at(env: &Env, place: &str) {
    let name = named(env, "d");
    let mut command = env.kubby_command();
    command
        .env("KUBBY_PROFILE", &name)
        .args(["start", "--keep-context"]);
    let kubby = Stopped::at(command, place);
    kill_process(qemu(&format!("kubby-{name}")), Signal::KILL).expect("a signal");
    let began = Instant::now();
    let output = kubby.resume();
    let text = String::from_utf8_lossy(&output.stderr);
    note!("{place}: {} after {:?}", output.status, began.elapsed());
    assert!(
        matches!(output.status.code(), Some(0 | 12 | 13 | 14)),
        "{place}: {}\n{text}",
        output.status
    );
    start(env, &name);
    healthy(env, &name);
    delete(env, &name);
}

fn qemu_dies_while_a_start_runs(env: &Env) {
    qemu_dies_at(env, "before a command in the node");
}

/// Before its first instruction.
fn qemu_dies_before_the_machine_runs(env: &Env) {
    qemu_dies_at(env, "after load memory");
}

/// Stopped by another program: commands say that it does not answer, soon, and all is as before when
/// it runs again.
fn a_frozen_machine_is_noticed_and_thaws(env: &Env) {
    let name = &env.profile;
    keep(env);
    let frozen = qemu(&env.domain());
    kill_process(frozen, Signal::STOP).expect("a signal");
    let began = Instant::now();
    let status = env.kubby_on(name, &["status", "--exit-code"]);
    let took = began.elapsed();
    kill_process(frozen, Signal::CONT).expect("a signal");
    assert_ne!(status.code, 0, "{}", status.stdout);
    assert!(took < Duration::from_secs(60), "it took {took:?} to say so");
    note!("noticed after {took:?}, code {}", status.code);
    // What it has missed it does now, all at once.
    let minute = Duration::from_secs(60);
    eventually(minute, "it answers again", || {
        let status = env.kubby_on(name, &["status", "--exit-code"]);
        if status.code == 0 {
            Ok(())
        } else {
            Err(status.stdout)
        }
    });
    healthy(env, name);

    // Paused in libvirt by another program: start resumes it.
    env.virsh(&["suspend", &env.domain()]).ok();
    start(env, name);
    healthy(env, name);
    assert!(has_mark(env, name, "before"));
}

fn a_start_survives_a_dropped_connection(env: &Env) {
    let name = &env.profile;
    let mut command = env.kubby_command();
    command
        .env("KUBBY_PROFILE", name)
        .args(["start", "--keep-context"]);
    let kubby = Stopped::at(command, "after a command in the node");
    // All sessions but this one's own.
    in_node(
        env,
        "for p in $(pgrep -f 'sshd-session: root'); do \
         case \" $(ps -o ppid= -p $$) $PPID \" in *\" $p \"*) ;; *) kill -9 \"$p\";; esac; done",
    );
    let output = kubby.resume();
    let text = String::from_utf8_lossy(&output.stderr);
    // A command that was under way is not repeated; one that was not begun is.
    assert!(
        matches!(output.status.code(), Some(0 | 13)),
        "{}\n{text}",
        output.status
    );
    note!("{}", output.status);
    start(env, name);
    healthy(env, name);
}

fn killed_components_come_back(env: &Env) {
    let name = &env.profile;
    keep(env);
    for component in [
        "kube-apiserver",
        "etcd",
        "kubelet",
        "kube-scheduler",
        "containerd",
    ] {
        in_node(env, &format!("pkill -9 -x {component}")).ok();
        let began = Instant::now();
        start(env, name);
        env.kubby_on(name, &["status", "--exit-code"]).ok();
        note!(
            "{component}: back after {:.1} s",
            began.elapsed().as_secs_f64()
        );
    }
    healthy(env, name);
    assert!(has_mark(env, name, "before"));
}

/// The node's disk is full: kubelet says so, and what was written is still there when it is not.
fn a_full_node_recovers(env: &Env) {
    let name = &env.profile;
    keep(env);
    let fill = "fallocate -l \"$(df --output=avail -B1 / | tail -n 1)\" /filler || true; \
                dd if=/dev/zero of=/filler2 bs=1M 2>/dev/null; df --output=avail / | tail -n 1";
    in_node(env, fill).ok();
    let full = kubectl(env, name, &["create", "namespace", "too-much"]);
    note!("writing on a full disk ended with {}", full.code);
    in_node(env, "rm -f /filler /filler2").ok();
    start(env, name);
    eventually(
        Duration::from_secs(120),
        "the node takes writes again",
        || {
            let run = kubectl(
                env,
                name,
                &["create", "namespace", "after", "--request-timeout=20s"],
            );
            if run.code == 0 || run.stderr.contains("already exists") {
                Ok(())
            } else {
                Err(run.stderr)
            }
        },
    );
    healthy(env, name);
    assert!(has_mark(env, name, "before"));
}

fn a_clock_that_jumped_is_set_right(env: &Env) {
    let name = &env.profile;
    keep(env);
    for jump in ["+2 hours", "-2 hours"] {
        in_node(env, &format!("date -s '{jump}'")).ok();
        start(env, name);
        healthy(env, name);
    }
    assert!(has_mark(env, name, "before"));
}
