//! A process of its own for what works on standard streams, terminals and signals: this test
//! binary again, running only [`act`].

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kubby::testing::interrupt;
use kubby::testing::remote::{Remote, Ssh, Target, exec_streaming, shell};
use rustix::process::{Pid, Signal, kill_process};

use crate::server::PATIENCE;

/// Stands between what the test harness prints and what is under test.
const BEGIN: &[u8] = b"<begin>\n";

#[test]
#[ignore = "the other tests start it as a process of its own"]
fn act() {
    let get = |name: &str| std::env::var(format!("KUBBY_TEST_{name}")).unwrap();
    let target = Target {
        host: "127.0.0.1".into(),
        port: get("PORT").parse().unwrap(),
        user: get("USER"),
        private_key: get("KEY").into(),
        host_key: get("HOST_KEY"),
    };
    let command = get("COMMAND");
    interrupt::install().unwrap();
    let mut stdout = std::fs::File::from(rustix::io::dup(rustix::stdio::stdout()).unwrap());
    stdout
        .write_all(format!("pid={}\n", std::process::id()).as_bytes())
        .unwrap();
    stdout.write_all(BEGIN).unwrap();
    let result = match get("DO").as_str() {
        "exec" => exec_streaming(&target, &command, false),
        "exec-tty" => exec_streaming(&target, &command, true),
        "shell" => shell(&target),
        _ => Ssh::connect(&target, PATIENCE).and_then(|mut s| Ok(s.run(&command)?.status)),
    };
    let code = result.unwrap_or_else(|e| {
        let _ = std::fs::write("/dev/stderr", format!("{e}\n"));
        i32::from(e.kind().exit_code())
    });
    std::process::exit(code);
}

/// How to run [`act`].
pub struct Helper {
    env: Vec<(&'static str, String)>,
}

impl Helper {
    /// `action` is one of those that [`act`] knows.
    pub fn new(target: &Target, action: &str, command: &str) -> Helper {
        let env = vec![
            ("KUBBY_TEST_PORT", target.port.to_string()),
            ("KUBBY_TEST_USER", target.user.clone()),
            ("KUBBY_TEST_KEY", target.private_key.display().to_string()),
            ("KUBBY_TEST_HOST_KEY", target.host_key.clone()),
            ("KUBBY_TEST_DO", action.to_owned()),
            ("KUBBY_TEST_COMMAND", command.to_owned()),
        ];
        Helper { env }
    }

    /// The shell command that starts the helper, for use inside another program.
    pub fn shell_command() -> String {
        let exe = std::env::current_exe().unwrap();
        format!(
            "{} --exact helper::act --ignored --nocapture",
            exe.display()
        )
    }

    /// Starts the helper alone, with pipes.
    pub fn spawn(&self) -> Process {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "helper::act", "--ignored", "--nocapture"]);
        Process::spawn(self.apply(&mut command))
    }

    /// Starts a program in which the helper's command works.
    pub fn apply<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.envs(self.env.iter().map(|(name, value)| (name, value)))
    }
}

/// A process whose outputs are collected while it runs.
pub struct Process {
    child: Child,
    /// Its standard input, until taken.
    pub stdin: Option<ChildStdin>,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

/// What a process left behind.
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Process {
    /// Starts a program with pipes on all streams.
    pub fn spawn(command: &mut Command) -> Process {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdout, out_reader) = collect(child.stdout.take().unwrap());
        let (stderr, err_reader) = collect(child.stderr.take().unwrap());
        let stdin = child.stdin.take();
        Process {
            child,
            stdin,
            stdout,
            stderr,
            readers: vec![out_reader, err_reader],
        }
    }

    /// Waits for a text on standard output.
    pub fn expect(&self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let seen = String::from_utf8_lossy(&self.stdout.lock().unwrap()).into_owned();
            if seen.contains(text) {
                return seen;
            }
            assert!(Instant::now() < end, "no `{text}` in: {seen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the helper is about to act.
    pub fn await_begin(&self) -> String {
        self.expect("<begin>")
    }

    /// Types something.
    pub fn send(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// Sends a signal to the process itself.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end, within limits; standard input stays as it is.
    pub fn wait(mut self) -> Finished {
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "the process does not end");
            std::thread::sleep(Duration::from_millis(20));
        };
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        let stdout = std::mem::take(&mut *self.stdout.lock().unwrap());
        let begin = stdout.windows(BEGIN.len()).position(|w| w == BEGIN);
        Finished {
            code: status.code(),
            stdout: stdout[begin.map_or(0, |n| n + BEGIN.len())..].to_vec(),
            stderr: std::mem::take(&mut *self.stderr.lock().unwrap()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn collect(mut stream: impl Read + Send + 'static) -> (Arc<Mutex<Vec<u8>>>, JoinHandle<()>) {
    let collected = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&collected);
    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n) = stream.read(&mut buffer) {
            if n == 0 {
                break;
            }
            into.lock().unwrap().extend_from_slice(&buffer[..n]);
        }
    });
    (collected, reader)
}
