//! Runs programs of the host (mmdebstrap, go, qemu-img …): output streamed to a step and kept in
//! a log file, the end of it in the error, stopped on Ctrl-C, never through a shell.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result, ResultExt};
use crate::interrupt;
use crate::progress::StepSink;

/// How many of the last output lines an error shows.
const TAIL_LINES: usize = 20;

/// Finds a program in `PATH`, and where administrators' programs live even for users whose `PATH`
/// lacks those folders (Debian's default for ordinary users).
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|p| p.is_file() && rustix::fs::access(p, rustix::fs::Access::EXEC_OK).is_ok())
}

/// A program to run, built like [`Command`].
#[derive(Debug)]
pub struct Tool {
    program: String,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: Option<PathBuf>,
    log: Option<PathBuf>,
    deadline: Option<Duration>,
    stop: Option<Arc<AtomicBool>>,
    kind: Kind,
}

impl Tool {
    /// `program` by its name in `PATH` or by its path; a failure becomes an error of `kind`.
    pub fn new(program: impl Into<String>, kind: Kind) -> Self {
        Tool {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            dir: None,
            log: None,
            deadline: None,
            stop: None,
            kind,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.args
            .extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable of the program.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The working directory.
    #[must_use]
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.dir = Some(dir.as_ref().to_owned());
        self
    }

    /// Keeps the whole output in this file; the error names it.
    #[must_use]
    pub fn log(mut self, file: impl AsRef<Path>) -> Self {
        self.log = Some(file.as_ref().to_owned());
        self
    }

    /// Ends the program with an error when it runs longer.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Ends the program with an error when somebody sets `stop`, such as the program beside it that
    /// has failed.
    #[must_use]
    pub fn stop(mut self, stop: Arc<AtomicBool>) -> Self {
        self.stop = Some(stop);
        self
    }

    fn describe(&self) -> String {
        let mut text = self.program.clone();
        for arg in &self.args {
            text.push(' ');
            text.push_str(&arg.to_string_lossy());
        }
        text
    }

    /// Runs the program to its end and returns what it wrote to stdout. Lines of stdout and
    /// stderr go to `sink` as details.
    ///
    /// # Errors
    /// Of the kind given to [`Tool::new`] when the program is missing, exits non-zero or passes
    /// its deadline or is stopped, with the last lines of its output; [`Kind::Interrupted`] on Ctrl-C.
    pub fn run(self, sink: Option<Arc<dyn StepSink>>) -> Result<String> {
        let path = if self.program.contains('/') {
            PathBuf::from(&self.program)
        } else {
            find(&self.program).ok_or_else(|| {
                Error::new(self.kind, format!("`{}` is not installed on this host", self.program))
                    .with_hint("install what kubby needs: scripts/up does it on Debian, and the README lists the packages for others")
            })?
        };
        let mut command = Command::new(&path);
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that a signal reaches the program's children as well.
            .process_group(0);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        let mut child = command
            .spawn()
            .context(self.kind, || format!("cannot run `{}`", path.display()))?;

        let log = match &self.log {
            Some(file) => Some(
                File::create(file)
                    .context(self.kind, || format!("cannot write {}", file.display()))?,
            ),
            None => None,
        };
        let collected = Arc::new(Mutex::new(Collected {
            stdout: String::new(),
            tail: Vec::new(),
            log,
            sink,
        }));
        let (closed, all_closed) = mpsc::channel::<()>();
        let mut readers = Vec::new();
        if let Some(out) = child.stdout.take() {
            readers.push(spawn_reader(
                out,
                true,
                Arc::clone(&collected),
                closed.clone(),
            ));
        }
        if let Some(err) = child.stderr.take() {
            readers.push(spawn_reader(
                err,
                false,
                Arc::clone(&collected),
                closed.clone(),
            ));
        }
        drop(closed);

        let started = Instant::now();
        let status = loop {
            if let Some(status) = child
                .try_wait()
                .context(self.kind, || format!("cannot wait for `{}`", self.program))?
            {
                break status;
            }
            let late = self.deadline.is_some_and(|d| started.elapsed() > d);
            let stopped = self
                .stop
                .as_ref()
                .is_some_and(|s| s.load(Ordering::Relaxed));
            if late || stopped || interrupt::requested() {
                end_group(&mut child);
                interrupt::check()?;
                if stopped {
                    let message = format!("`{}` was stopped", self.describe());
                    return Err(Error::new(self.kind, message));
                }
                let error = Error::new(
                    self.kind,
                    format!(
                        "`{}` did not end within {} s",
                        self.describe(),
                        started.elapsed().as_secs()
                    ),
                );
                return Err(self.explain(error, &collected));
            }
            // Wakes at once when the program closes its output, which it does when it ends.
            if let Err(mpsc::RecvTimeoutError::Disconnected) =
                all_closed.recv_timeout(Duration::from_millis(50))
            {
                std::thread::sleep(Duration::from_millis(2));
            }
        };
        for reader in readers {
            let _ = reader.join();
        }
        if !status.success() {
            let error = Error::new(self.kind, format!("`{}` failed: {status}", self.describe()));
            return Err(self.explain(error, &collected));
        }
        let mut collected = collected
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(std::mem::take(&mut collected.stdout))
    }

    fn explain(&self, error: Error, collected: &Mutex<Collected>) -> Error {
        let collected = collected
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let error = error.with_detail("its last output", collected.tail.join("\n"));
        match &self.log {
            Some(log) => error.with_hint(format!("the whole output is in {}", log.display())),
            None => error,
        }
    }
}

struct Collected {
    stdout: String,
    tail: Vec<String>,
    log: Option<File>,
    sink: Option<Arc<dyn StepSink>>,
}

fn spawn_reader(
    stream: impl std::io::Read + Send + 'static,
    is_stdout: bool,
    collected: Arc<Mutex<Collected>>,
    closed: mpsc::Sender<()>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut raw = Vec::new();
        while let Ok(n) = reader.read_until(b'\n', &mut raw) {
            if n == 0 {
                break;
            }
            let text = String::from_utf8_lossy(&raw).into_owned();
            let mut c = collected
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            if let Some(log) = &mut c.log {
                let _ = log.write_all(&raw);
            }
            let line = text.trim_end();
            if !line.is_empty() {
                if c.tail.len() == TAIL_LINES {
                    c.tail.remove(0);
                }
                c.tail.push(line.to_owned());
                if let Some(sink) = &c.sink {
                    sink.detail(line);
                }
            }
            if is_stdout {
                c.stdout.push_str(&text);
            }
            raw.clear();
        }
        drop(closed);
    })
}

/// Ends the program and its children: politely first, so that they can clean up.
fn end_group(child: &mut std::process::Child) {
    let Some(pid) = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    else {
        return;
    };
    let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::TERM);
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        if matches!(child.try_wait(), Ok(Some(_))) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stdout_is_returned() {
        let out = Tool::new("sh", Kind::Assets)
            .args(["-c", "echo one; echo two >&2"])
            .run(None);
        assert_eq!(out.unwrap(), "one\n");
    }

    #[test]
    fn a_failure_shows_the_output_and_names_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let e = Tool::new("sh", Kind::Assets)
            .args(["-c", "echo broken >&2; exit 3"])
            .log(&log)
            .run(None)
            .unwrap_err();
        assert_eq!(e.kind(), Kind::Assets);
        assert!(e.details()[0].1.contains("broken"));
        assert!(e.hints()[0].contains("log"));
        assert_eq!(std::fs::read_to_string(log).unwrap(), "broken\n");
    }

    #[test]
    fn a_missing_program_says_so() {
        let e = Tool::new("kubby-no-such-tool", Kind::Assets)
            .run(None)
            .unwrap_err();
        assert!(e.message().contains("not installed"), "{e}");
    }

    #[test]
    fn a_deadline_ends_the_program_and_its_children() {
        let started = Instant::now();
        let e = Tool::new("sh", Kind::Assets)
            .args(["-c", "sleep 30 & sleep 30"])
            .deadline(Duration::from_millis(200))
            .run(None)
            .unwrap_err();
        assert!(e.message().contains("did not end"), "{e}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn setting_stop_ends_the_program() {
        let (started, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let e = std::thread::scope(|scope| {
            let tool = Tool::new("sleep", Kind::Assets)
                .arg("30")
                .stop(Arc::clone(&stop));
            let run = scope.spawn(|| tool.run(None).unwrap_err());
            stop.store(true, Ordering::Relaxed);
            run.join().unwrap()
        });
        assert!(e.message().contains("`sleep 30` was stopped"), "{e}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
