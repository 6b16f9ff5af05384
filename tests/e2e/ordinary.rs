//! A user without privileges, groups or a system daemon: exercises 1 to 3 on `qemu:///session`,
//! and what happens to it when its libvirt and its host go down.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::env::{Env, Run, Test, uri};
use crate::faults::crowd::{go_on, stand_still};

pub const TESTS: &[Test] = &[("an_ordinary_user_has_a_cluster", an_ordinary_user)];

/// A user of the system that is made for the test, and goes with it.
struct User {
    name: String,
    id: u32,
    home: PathBuf,
    runtime: PathBuf,
}

fn tool(program: &str, args: &[&str]) -> Run {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    Run::of(command)
}

impl User {
    fn new() -> Self {
        let name = format!("kubby-e2e-{}", std::process::id());
        tool("useradd", &["--create-home", "--shell", "/bin/sh", &name]).ok();
        let id = tool("id", &["-u", &name]).ok().stdout;
        let home = tool("getent", &["passwd", &name]).ok().stdout;
        let home = PathBuf::from(home.split(':').nth(5).expect("a home"));
        let id = id.trim().parse().expect("a number");
        let runtime = home.join("run");
        let user = User {
            name,
            id,
            home,
            runtime,
        };
        std::fs::create_dir(&user.runtime).expect("a folder");
        user.own(&user.runtime);
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&user.runtime, private).expect("a mode");
        user
    }

    fn own(&self, path: &Path) {
        chown(path, Some(self.id), Some(self.id)).expect("an owner");
    }

    /// A program as this user, who can become nobody else.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args([
                "--reuid",
                &self.name,
                "--regid",
                &self.name,
                "--clear-groups",
            ])
            .args(["--no-new-privs", "--", program])
            .env_clear()
            .env("HOME", &self.home)
            .env("USER", &self.name)
            .env("XDG_RUNTIME_DIR", &self.runtime)
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("LC_ALL", "C.UTF-8")
            .env("NO_COLOR", "1")
            .current_dir(&self.home)
            .stdin(Stdio::null());
        command
    }

    fn kubby_command(&self) -> Command {
        self.command(&self.home.join("kubby").to_string_lossy())
    }

    fn kubby(&self, args: &[&str]) -> Run {
        let mut command = self.kubby_command();
        command.args(args);
        Run::of(command)
    }

    /// Ends the user's processes whose program is named so.
    fn end(&self, program: &str, signal: Signal) -> usize {
        use std::os::unix::fs::MetadataExt as _;
        let mut ended = 0;
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.parse().ok());
            let Some(pid) = id.and_then(Pid::from_raw) else {
                continue;
            };
            let own = entry.metadata().is_ok_and(|meta| meta.uid() == self.id);
            let called = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if own && called.trim().starts_with(program) && kill_process(pid, signal).is_ok() {
                ended += 1;
            }
        }
        ended
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if self.home.join("kubby").exists() {
            let _ = self.kubby(&["delete", "--all"]);
        }
        self.end("", Signal::KILL);
        std::thread::sleep(std::time::Duration::from_millis(300));
        let _ = tool("userdel", &["--remove", &self.name]);
    }
}

/// The program and what it would otherwise build for minutes.
fn equip(env: &Env, user: &User) {
    let program = user.home.join("kubby");
    std::fs::copy(env!("CARGO_BIN_EXE_kubby"), &program).expect("a copy");
    user.own(&program);
    let assets = env
        .kubby(&["start", "--download-only", "-o", "json"])
        .ok()
        .json();
    let cache = user.home.join(".cache/kubby");
    for (kind, file) in [("node-images", "nodeImage"), ("components", "components")] {
        let entry = Path::new(assets[file].as_str().expect("a path")).parent();
        let entry = entry.expect("a folder").to_string_lossy().into_owned();
        let to = cache.join(kind);
        std::fs::create_dir_all(&to).expect("a folder");
        tool("cp", &["-r", &entry, &to.to_string_lossy()]).ok();
    }
    let all = user.home.join(".cache");
    let owner = format!("{0}:{0}", user.name);
    tool("chown", &["-R", &owner, &all.to_string_lossy()]).ok();
}

fn an_ordinary_user(env: &Env) {
    if uri() != "qemu:///system" {
        eprintln!("  only root can make a user; the other tests have run as an ordinary one");
        return;
    }
    let user = User::new();
    equip(env, &user);
    let groups = Run::of({
        let mut command = user.command("id");
        command.arg("-G");
        command
    });
    assert_eq!(
        groups.ok().stdout.trim(),
        user.id.to_string(),
        "in no group but their own"
    );

    // Their libvirt goes while a start is under way; it says so, or does not even notice.
    let mut command = user.kubby_command();
    command.args(["start", "--no-template"]);
    let child = stand_still(command, "after make the overlay");
    assert!(user.end("libvirtd", Signal::KILL) + user.end("virtqemud", Signal::KILL) > 0);
    let output = go_on(child);
    let text = String::from_utf8_lossy(&output.stderr);
    eprintln!("  without libvirt the start ended with {}", output.status);
    assert!(matches!(output.status.code(), Some(0 | 12)), "{text}");

    // Exercise 1.
    let run = user.kubby(&["start", "--no-template"]).ok();
    eprintln!("  start: {:.1} s", run.took.as_secs_f64());
    let status = user.kubby(&["status", "-o", "json"]).ok().json();
    for part in ["host", "kubelet", "apiserver"] {
        assert_eq!(status[part], "Running", "{status}");
    }
    assert_eq!(status["kubeconfig"], "Configured");
    let list = user.kubby(&["list", "-o", "json"]).ok().stdout;
    assert!(
        list.contains("qemu:///session") || !list.contains("qemu:///system"),
        "{list}"
    );

    // Exercise 2.
    let looks = "pgrep -l etcd && pgrep -l kube-apiserver && pgrep -l kube-scheduler && pgrep -l controller";
    let seen = user.kubby(&["ssh", "--", looks]).ok().stdout;
    assert_eq!(seen.lines().count(), 4, "{seen}");
    let seen = user
        .kubby(&["ssh", "--", "pgrep -l kubelet && pgrep -l kube-proxy"])
        .ok()
        .stdout;
    assert_eq!(seen.lines().count(), 2, "{seen}");
    user.kubby(&["ssh", "--", "exit 7"]).exits(7);

    // Exercise 3.
    let kubectl = |args: &[&str]| user.kubby(&[&["kubectl", "--"], args].concat());
    kubectl(&[
        "config",
        "use-context",
        "kubby",
        "--kubeconfig",
        ".kube/config",
    ])
    .ok();
    let nodes = kubectl(&["get", "nodes", "--no-headers"]).ok().stdout;
    let words: Vec<&str> = nodes.split_whitespace().collect();
    assert_eq!(words[..3], ["kubby", "Ready", "control-plane"], "{nodes}");
    let node = kubectl(&["describe", "node", "kubby"]).ok().stdout;
    for part in [
        "Roles:",
        "Labels:",
        "Conditions:",
        "Capacity:",
        "Allocatable:",
        "System Info:",
    ] {
        assert!(node.contains(part), "{part}: {node}");
    }
    let resources = kubectl(&["api-resources", "-o", "name"]).ok().stdout;
    assert!(
        resources.lines().any(|line| line == "deployments.apps"),
        "{resources}"
    );

    // The host goes down and comes back: neither QEMU nor libvirt runs any more.
    kubectl(&["create", "namespace", "kept"]).ok();
    assert_eq!(user.end("qemu-system", Signal::KILL), 1);
    user.end("libvirtd", Signal::KILL);
    user.end("virtqemud", Signal::KILL);
    let status = user.kubby(&["status", "-o", "json"]).ok().json();
    assert_eq!(status["host"], "Stopped", "{status}");
    let run = user.kubby(&["start"]).ok();
    eprintln!("  after the host was down: {:.1} s", run.took.as_secs_f64());
    kubectl(&["get", "namespace", "kept"]).ok();

    user.kubby(&["delete"]).ok();
    assert!(!user.home.join(".local/share/kubby").exists());
    assert!(!user.home.join(".kube/config").exists());
    let mut virsh = user.command("virsh");
    virsh.args(["-c", "qemu:///session", "list", "--all", "--name"]);
    assert_eq!(Run::of(virsh).ok().stdout.trim(), "");
}
