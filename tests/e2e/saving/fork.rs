//! A fork of a cluster whose database is being written to.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::{delete, healthy, kubectl, named};
use crate::env::Env;
use crate::exercises::{database::database, rolled_out};
use crate::group::Test;
use crate::program::{Running, eventually};

pub const TESTS: &[Test] = tests![a_fork_holds_all_that_was_acknowledged,];

const CLIENT: &str = "mysql -h 127.0.0.1 -u user -ppassword db -N";

/// Sends one number after the other to one session of the client and prints each when the
/// server's answer to it is there.
fn inserts() -> Vec<String> {
    let script = format!(
        "{{ i=0; while true; do i=$((i+1)); echo \"INSERT INTO ticks VALUES ($i); SELECT $i;\"; \
         sleep 0.02; done; }} | {CLIENT} --unbuffered"
    );
    ["bash", "-c", &script].map(str::to_owned).to_vec()
}

fn rows(env: &Env, profile: &str) -> u64 {
    let client: Vec<&str> = CLIENT.split(' ').collect();
    let args = [
        &["exec", "mysql-0", "--"],
        &client[..],
        &["-e", "SELECT COUNT(*) FROM ticks"],
    ]
    .concat();
    kubectl(env, profile, &args)
        .ok()
        .stdout
        .trim()
        .parse()
        .expect("a number")
}

fn sql(env: &Env, statement: &str) {
    let client: Vec<&str> = CLIENT.split(' ').collect();
    let args = [&["exec", "mysql-0", "--"], &client[..], &["-e", statement]].concat();
    kubectl(env, &env.profile, &args).ok();
}

/// A client that writes numbers without gaps, and those that the server has acknowledged.
struct Writer {
    child: Running,
    numbers: mpsc::Receiver<(Instant, u64)>,
    seen: Vec<(Instant, u64)>,
}

impl Writer {
    fn start(env: &Env) -> Self {
        let mut command: Command = env.kubby_command();
        command
            .args(["-p", &env.profile, "kubectl", "--"])
            .args(["exec", "mysql-0", "--"])
            .args(inserts())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = Running::start(&mut command);
        let (sender, numbers) = mpsc::channel();
        let lines = BufReader::new(child.child().stdout.take().expect("stdout")).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Ok(number) = line.trim().parse::<u64>() {
                    let _ = sender.send((Instant::now(), number));
                }
            }
        });
        Writer {
            child,
            numbers,
            seen: Vec::new(),
        }
    }

    /// Waits until what was acknowledged is enough.
    #[track_caller]
    fn until(&mut self, what: &str, is_enough: impl Fn(&[(Instant, u64)]) -> bool) {
        eventually(Duration::from_secs(60), what, || {
            self.seen.extend(self.numbers.try_iter());
            match is_enough(&self.seen) {
                true => Ok(()),
                false => Err(self.seen.last().copied()),
            }
        });
    }

    /// Returns the longest time between two acknowledgements from one of them on.
    fn longest_pause(&self, from: usize) -> Duration {
        let pairs = self.seen[from..].windows(2);
        let pauses = pairs.map(|pair| pair[1].0 - pair[0].0);
        pauses.max().unwrap_or_default()
    }
}

fn a_fork_holds_all_that_was_acknowledged(env: &Env) {
    let fork = named(env, "fork");
    database(env);
    rolled_out(env, "statefulset/mysql");
    sql(
        env,
        "DROP TABLE IF EXISTS ticks; CREATE TABLE ticks (n INT PRIMARY KEY) ENGINE=InnoDB",
    );
    let mut writer = Writer::start(env);
    writer.until("it is written", |seen| seen.len() > 50);
    let last = writer.seen.len() - 1;
    let (_, acknowledged) = writer.seen[last];
    let run = env
        .kubby(&["fork", &fork, "--keep-context", "-o", "json"])
        .ok();
    let at_end = Instant::now();
    writer.until("the source continues", |seen| {
        seen.last().is_some_and(|(when, _)| *when > at_end)
    });
    note!(
        "fork under load: {:.1} s; the source's longest pause: {:.2} s",
        run.took.as_secs_f64(),
        writer.longest_pause(last).as_secs_f64()
    );
    // The writer in the source's pod can write to nothing any more and ends by itself.
    writer.child.kill();

    healthy(env, &fork);
    // The numbers have no gaps, so how many there are says up to which.
    let there = rows(env, &fork);
    assert!(
        there >= acknowledged,
        "{acknowledged} were acknowledged before the fork, {there} are in it"
    );
    assert!(rows(env, &env.profile) > there);
    healthy(env, &env.profile);
    delete(env, &fork);
    sql(env, "DROP TABLE ticks");
}
