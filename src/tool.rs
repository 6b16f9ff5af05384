//! Runs programs of the host (mmdebstrap, go, qemu-img …): output streamed to a step and kept in
//! a log file, the end of it in the error, stopped on Ctrl-C, never through a shell.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::iter;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::error::{Error, Kind, Result, ResultExt};
use crate::interrupt;
use crate::progress::StepSink;

/// The number of the last output lines that an error shows.
const TAIL_LINES: usize = 20;

/// The longest time between two looks at a running program.
const LOOK: Duration = Duration::from_millis(50);

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
#[must_use]
#[derive(Debug)]
pub struct Tool {
    program: String,
    command: Command,
    log: Option<PathBuf>,
    deadline: Option<Duration>,
    stop: Option<Arc<AtomicBool>>,
    kind: Kind,
}

impl Tool {
    /// Names the program, as in `PATH` or by its path; a failure becomes an error of `kind`.
    pub fn new(program: impl Into<String>, kind: Kind) -> Self {
        let program = program.into();
        let found = (!program.contains('/')).then(|| find(&program)).flatten();
        Tool {
            command: Command::new(found.unwrap_or_else(|| PathBuf::from(&program))),
            program,
            log: None,
            deadline: None,
            stop: None,
            kind,
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds several arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable of the program.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the working directory.
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Keeps the whole output in this file; the error names it.
    pub fn log(mut self, file: impl AsRef<Path>) -> Self {
        self.log = Some(file.as_ref().to_owned());
        self
    }

    /// Ends the program with an error when it runs longer.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Ends the program with an error when `stop` is set, such as by the program beside it that has
    /// failed.
    pub fn stop(mut self, stop: Arc<AtomicBool>) -> Self {
        self.stop = Some(stop);
        self
    }

    fn describe(&self) -> String {
        let args = self.command.get_args().map(|arg| arg.to_string_lossy());
        let words: Vec<_> = iter::once(self.program.as_str().into())
            .chain(args)
            .collect();
        words.join(" ")
    }

    /// Runs the program to its end and returns what it wrote to stdout. Lines of stdout and
    /// stderr go to `sink` as details.
    ///
    /// # Errors
    /// Of the kind given to [`Tool::new`] when the program is missing, exits non-zero or passes
    /// its deadline or is stopped, with the last lines of its output; [`Kind::Interrupted`] on Ctrl-C.
    pub fn run(mut self, sink: Option<Arc<dyn StepSink>>) -> Result<String> {
        let mut child = self.spawn()?;
        let (sender, lines) = mpsc::channel();
        read_lines(child.stdout.take(), true, sender.clone());
        read_lines(child.stderr.take(), false, sender);
        let mut collected = Collected {
            stdout: String::new(),
            tail: Vec::new(),
            log: None,
            sink,
        };
        if let Some(file) = &self.log {
            let log = File::create(file);
            let log = log.context(self.kind, || format!("cannot write {}", file.display()));
            collected.log = Some(log.inspect_err(|_| end_group(&mut child))?);
        }
        let Some(failure) = self.wait(&mut child, &lines, &mut collected)? else {
            return Ok(collected.stdout);
        };
        let message = format!("`{}` {failure}", self.describe());
        let error = Error::new(self.kind, message)
            .with_detail("its last output", collected.tail.join("\n"));
        Err(match &self.log {
            Some(log) => error.with_hint(format!("the whole output is in {}", log.display())),
            None => error,
        })
    }

    fn spawn(&mut self) -> Result<Child> {
        self.command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that a signal reaches the program's children as well.
            .process_group(0);
        self.command.spawn().map_err(|e| {
            if e.kind() == ErrorKind::NotFound && !self.program.contains('/') {
                return Error::new(self.kind, format!("`{}` is not installed on this host", self.program))
                    .with_hint("install what kubby needs: scripts/up does it on Debian, and the README lists the packages for others");
            }
            Error::new(self.kind, format!("cannot run `{}`", self.program)).with_source(e)
        })
    }

    /// Collects the output until the program has ended, by itself or by kubby, and returns how it
    /// failed.
    fn wait(
        &self,
        child: &mut Child,
        lines: &Receiver<Line>,
        collected: &mut Collected,
    ) -> Result<Option<String>> {
        let started = Instant::now();
        loop {
            match lines.recv_timeout(LOOK) {
                Ok(line) => collected.take(&line),
                Err(RecvTimeoutError::Timeout) => {}
                // It closed its output, as it does when it ends.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(LOOK / 25),
            }
            let status = child.try_wait();
            let fail = || format!("cannot wait for `{}`", self.program);
            if let Some(status) = status.context(self.kind, fail)? {
                lines.iter().for_each(|line| collected.take(&line));
                return Ok((!status.success()).then(|| format!("failed: {status}")));
            }
            let stop = self.stop.as_ref();
            let stopped = stop.is_some_and(|stop| stop.load(Ordering::Relaxed));
            let late = self.deadline.is_some_and(|d| started.elapsed() > d);
            if late || stopped || interrupt::requested() {
                end_group(child);
                interrupt::check()?;
                return Ok(Some(match stopped {
                    true => "was stopped".to_owned(),
                    false => format!("did not end within {} s", started.elapsed().as_secs()),
                }));
            }
        }
    }
}

/// A line of output, and whether it is one of stdout.
type Line = (Vec<u8>, bool);

struct Collected {
    stdout: String,
    tail: Vec<String>,
    log: Option<File>,
    sink: Option<Arc<dyn StepSink>>,
}

impl Collected {
    fn take(&mut self, (raw, is_stdout): &Line) {
        if let Some(log) = &mut self.log {
            let _ = log.write_all(raw);
        }
        let text = String::from_utf8_lossy(raw);
        let line = text.trim_end();
        if !line.is_empty() {
            if self.tail.len() == TAIL_LINES {
                self.tail.remove(0);
            }
            self.tail.push(line.to_owned());
            if let Some(sink) = &self.sink {
                sink.detail(line);
            }
        }
        if *is_stdout {
            self.stdout.push_str(&text);
        }
    }
}

/// Reads the lines of an output on a thread of its own.
fn read_lines(stream: Option<impl Read + Send + 'static>, is_stdout: bool, lines: Sender<Line>) {
    let Some(stream) = stream else {
        return;
    };
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut raw = Vec::new();
        while reader.read_until(b'\n', &mut raw).is_ok_and(|n| n > 0) {
            let _ = lines.send((std::mem::take(&mut raw), is_stdout));
        }
    });
}

/// Ends the program and its children: by SIGTERM first, so that they can clean up.
fn end_group(child: &mut Child) {
    let pid = Pid::from_child(child);
    let _ = kill_process_group(pid, Signal::TERM);
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        if matches!(child.try_wait(), Ok(Some(_))) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = kill_process_group(pid, Signal::KILL);
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
