//! A user without privileges.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use crate::program::Run;

/// A user of the system that is made for tests, and removed after them.
pub struct User {
    pub name: String,
    pub id: u32,
    pub home: PathBuf,
    runtime: PathBuf,
}

pub fn tool(program: &str, args: &[&str]) -> Run {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    Run::of(command)
}

impl User {
    pub fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("kubby-e2e-{}-{number}", std::process::id());
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

    pub fn own(&self, path: &Path) {
        chown(path, Some(self.id), Some(self.id)).expect("an owner");
    }

    /// Returns a program as this user, who can become no other.
    pub fn command(&self, program: &str) -> Command {
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

    pub fn kubby_command(&self) -> Command {
        self.command(&self.home.join("kubby").to_string_lossy())
    }

    pub fn kubby(&self, args: &[&str]) -> Run {
        let mut command = self.kubby_command();
        command.args(args);
        Run::of(command)
    }

    /// Ends the user's processes whose program is named so.
    pub fn end(&self, program: &str, signal: Signal) -> usize {
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
