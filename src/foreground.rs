//! Runs a program of the user's on kubby's own standard streams: signals passed on, a limit, and
//! the exit codes that shells have.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{self, Pid, Signal};

use crate::error::{Kind, Result, ResultExt};
use crate::interrupt;

/// The time in which a program has to end after it was asked to. CI systems that cancel a job give
/// all of it ten seconds.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// The pause between two looks whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

/// The way in which a program ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// By itself, with this code; 128 + N where signal N ended it.
    Exited(u8),
    /// By its limit.
    TimedOut,
    /// By this signal to kubby, which was passed on.
    Interrupted(i32),
    /// It did not begin.
    NotRun(Obstacle),
}

/// The reason why a program cannot be run.
#[derive(Debug)]
pub(crate) enum Obstacle {
    /// There is none of this name.
    NotFound,
    /// There is one, and it cannot be executed.
    NotExecutable(io::Error),
}

impl Obstacle {
    /// Returns the exit code that shells have for it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Obstacle::NotFound => 127,
            Obstacle::NotExecutable(_) => 126,
        }
    }

    fn of(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Obstacle::NotFound,
            _ => Obstacle::NotExecutable(error),
        }
    }
}

/// Returns the obvious reason why a program, named by its path or to be found in `PATH`, cannot be
/// run.
pub(crate) fn obstacle(program: &OsStr) -> Option<Obstacle> {
    let look = |path: &Path| -> io::Result<()> {
        if std::fs::metadata(path)?.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        Ok(rustix::fs::access(path, rustix::fs::Access::EXEC_OK)?)
    };
    if program.as_encoded_bytes().contains(&b'/') {
        return look(Path::new(program)).err().map(Obstacle::of);
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let mut found = Some(Obstacle::NotFound);
    for folder in std::env::split_paths(&folders) {
        match look(&folder.join(program)) {
            Ok(()) => return None,
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                found = Some(Obstacle::NotExecutable(e));
            }
            Err(_) => {}
        }
    }
    found
}

/// Runs a program to its end. When kubby gets a signal, or the deadline passes, it and what it has
/// begun are asked to end, and ended after [`GRACE`].
///
/// # Errors
/// [`Kind::Internal`] when the operating system does not say how it ended.
pub(crate) fn run(mut command: Command, deadline: Option<Instant>) -> Result<Ending> {
    let shares_terminal = is_in_foreground();
    if !shares_terminal {
        // A group of its own, so that signals reach its children as well. On a terminal that
        // would take the terminal from it.
        command.process_group(0);
    }
    let child = match command.spawn() {
        Ok(child) => child,
        Err(e) => return Ok(Ending::NotRun(Obstacle::of(e))),
    };
    let mut running = Running {
        pid: Pid::from_child(&child),
        child,
        shares_terminal,
        planned: Vec::new(),
    };
    let fail = || "cannot wait for the command".to_owned();
    let mut cause = None;
    let status = loop {
        if let Some(status) = running.child.try_wait().context(Kind::Internal, fail)? {
            break status;
        }
        if let Some(signal) = interrupt::take_signal() {
            if cause.is_none() {
                running.pass_on(signal);
                cause = Some(Ending::Interrupted(signal));
            } else {
                running.planned = vec![(Instant::now(), Signal::KILL)];
            }
        } else if cause.is_none() && deadline.is_some_and(|d| Instant::now() >= d) {
            running.end(Signal::TERM);
            cause = Some(Ending::TimedOut);
        }
        running.send_planned();
        std::thread::sleep(LOOK);
    };
    // A terminal's Ctrl-C reaches both, and it may have been the faster one.
    let cause = cause.or_else(|| interrupt::take_signal().map(Ending::Interrupted));
    if cause.is_some() {
        running.end_rest();
    }
    Ok(cause.unwrap_or_else(|| Ending::Exited(exit_code(status))))
}

/// Returns an exit status as the one number that shells make of it.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|s| 128 + s));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255)
}

/// Returns whether this process has a terminal that it may read from, and gets its Ctrl-C.
fn is_in_foreground() -> bool {
    let terminal = File::open("/dev/tty");
    let owner = terminal.map(rustix::termios::tcgetpgrp);
    owner.is_ok_and(|owner| owner == Ok(process::getpgrp()))
}

struct Running {
    child: Child,
    pid: Pid,
    shares_terminal: bool,
    /// Signals to send, and when.
    planned: Vec<(Instant, Signal)>,
}

impl Running {
    fn send(&self, signal: Signal) {
        // One that is not there any more needs none.
        let _ = if self.shares_terminal {
            process::kill_process(self.pid, signal)
        } else {
            process::kill_process_group(self.pid, signal)
        };
    }

    /// Passes a signal on that kubby got.
    fn pass_on(&mut self, signal: i32) {
        let signal = Signal::from_named_raw(signal).unwrap_or(Signal::TERM);
        if self.shares_terminal && signal == Signal::INT {
            // It has that from the terminal, unless it was sent to kubby alone.
            let now = Instant::now();
            self.planned = vec![(now + GRACE, Signal::TERM), (now + 2 * GRACE, Signal::KILL)];
        } else {
            self.end(signal);
        }
    }

    fn end(&mut self, signal: Signal) {
        self.send(signal);
        // A stopped one would not hear it.
        self.send(Signal::CONT);
        self.planned = vec![(Instant::now() + GRACE, Signal::KILL)];
    }

    fn send_planned(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = self.planned.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, signal) in due {
            self.send(signal);
        }
    }

    /// Ends the processes that the ended program has started and left behind.
    fn end_rest(&mut self) {
        if self.shares_terminal {
            return;
        }
        let until = self.planned.last().map_or_else(Instant::now, |(at, _)| *at);
        while process::test_kill_process_group(self.pid).is_ok() {
            if Instant::now() >= until {
                self.send(Signal::KILL);
                return;
            }
            std::thread::sleep(LOOK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn codes_are_those_of_shells() {
        for (script, code) in [
            ("exit 0", 0),
            ("exit 7", 7),
            ("exit 255", 255),
            ("kill -KILL $$", 137),
            ("kill -TERM $$", 143),
        ] {
            let ending = run(shell(script), None).unwrap();
            assert!(
                matches!(ending, Ending::Exited(c) if c == code),
                "{script}: {ending:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_run_is_told_before_and_after_trying() {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("plain");
        std::fs::write(&plain, "no program").unwrap();
        for (program, code) in [
            (Path::new("kubby-no-such-program"), 127),
            (Path::new("/nowhere/at/all"), 127),
            (dir.path(), 126),
            (&plain, 126),
        ] {
            let before = obstacle(program.as_os_str()).map(|o| o.exit_code());
            assert_eq!(before, Some(code), "{}", program.display());
            match run(Command::new(program), None).unwrap() {
                Ending::NotRun(obstacle) => assert_eq!(obstacle.exit_code(), code),
                other => panic!("{}: {other:?}", program.display()),
            }
        }
        assert!(obstacle(OsStr::new("sh")).is_none());
        assert!(obstacle(OsStr::new("/bin/sh")).is_none());
    }

    #[test]
    fn the_limit_ends_the_whole_tree() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        // The child of the shell hears no SIGTERM, and its parent does not wait for it.
        let script = format!(
            "sh -c 'trap \"\" TERM; echo $$ > {0}.new; mv {0}.new {0}; while :; do sleep 0.1; done' & sleep 30",
            file.display()
        );
        let began = Instant::now();
        let deadline = began + Duration::from_secs(1);
        let ending = run(shell(&script), Some(deadline)).unwrap();
        assert!(matches!(ending, Ending::TimedOut), "{ending:?}");
        assert!(began.elapsed() < Duration::from_secs(20));
        let pid: i32 = std::fs::read_to_string(&file)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.map_or(true, |s| s.contains(") Z "))
        };
        let until = Instant::now() + Duration::from_secs(5);
        while !gone() {
            assert!(Instant::now() < until, "process {pid} still runs");
            std::thread::sleep(LOOK);
        }
    }
}
