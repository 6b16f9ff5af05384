//! Programs that tests run, and waiting for what they bring about.

use std::process::{Child, Command, ExitStatus, Output};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Writes a line for the reader of the log, with the test that it is of.
macro_rules! note {
    ($($text:tt)*) => {
        eprintln!(
            "  {}: {}",
            std::thread::current().name().unwrap_or("a part of a test"),
            format_args!($($text)*)
        )
    };
}

/// A finished program.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
    shown: String,
}

impl Run {
    pub fn of(mut command: Command) -> Self {
        let shown = format!("{command:?}");
        let began = Instant::now();
        let Output {
            status,
            stdout,
            stderr,
        } = command
            .output()
            .unwrap_or_else(|e| panic!("cannot run {shown}: {e}"));
        Run {
            code: status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            took: began.elapsed(),
            shown,
        }
    }

    /// Checks that it ended with this code; if not, shows all that it printed.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            code,
            "{} ended with {} instead of {code} after {:.1} s\n--- stdout\n{}\n--- stderr\n{}",
            self.shown,
            self.code,
            self.took.as_secs_f64(),
            self.stdout,
            self.stderr
        );
        self
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Checks that stderr holds this.
    #[track_caller]
    pub fn says(self, words: &str) -> Self {
        assert!(
            self.stderr.contains(words),
            "no `{words}` in stderr:\n{}",
            self.stderr
        );
        self
    }

    #[track_caller]
    pub fn prints(self, words: &str) -> Self {
        assert!(
            self.stdout.contains(words),
            "no `{words}` in stdout:\n{}",
            self.stdout
        );
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("not JSON ({e}):\n{}", self.stdout))
    }
}

/// A program that runs beside the test, and is killed when the test has failed before its end.
pub struct Running(Option<Child>);

impl Running {
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let child = command.spawn();
        Running(Some(
            child.unwrap_or_else(|e| panic!("cannot run {command:?}: {e}")),
        ))
    }

    pub fn child(&mut self) -> &mut Child {
        self.0.as_mut().expect("it was not waited for")
    }

    pub fn id(&self) -> u32 {
        self.0.as_ref().expect("it was not waited for").id()
    }

    pub fn signal(&self, signal: Signal) {
        let child = self.0.as_ref().expect("it was not waited for");
        kill_process(Pid::from_child(child), signal).expect("a signal");
    }

    /// Waits until it has ended.
    #[track_caller]
    pub fn ends_within(&mut self, limit: Duration) -> ExitStatus {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.child().try_wait().expect("its status") {
                return status;
            }
            assert!(Instant::now() < until, "it did not end within {limit:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for its end, and returns what it has written to the pipes that it got.
    pub fn output(mut self) -> Output {
        let child = self.0.take().expect("it was not waited for");
        child.wait_with_output().expect("it ends")
    }

    /// Kills it.
    pub fn kill(mut self) -> ExitStatus {
        let _ = self.child().kill();
        self.child().wait().expect("it ends")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Returns whether a process is gone. One that has ended, and whose parent has not asked how, has no command line.
pub fn has_ended(pid: impl std::fmt::Display) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline"));
    line.unwrap_or_default().is_empty()
}

/// Looks again until the check passes, or fails at the deadline with what was seen last.
#[track_caller]
pub fn eventually<T: std::fmt::Debug>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<(), T>,
) {
    let end = Instant::now() + limit;
    loop {
        match look() {
            Ok(()) => return,
            Err(last) if Instant::now() > end => panic!("{what}: not within {limit:?}: {last:?}"),
            Err(_) => std::thread::sleep(Duration::from_millis(300)),
        }
    }
}
