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

fn a_fork_holds_all_that_was_acknowledged(env: &Env) {
    let fork = named(env, "fork");
    database(env);
    rolled_out(env, "statefulset/mysql");
    let client: Vec<&str> = CLIENT.split(' ').collect();
    let sql = |statement: &str| {
        let args = [&["exec", "mysql-0", "--"], &client[..], &["-e", statement]].concat();
        kubectl(env, &env.profile, &args).ok();
    };
    sql("DROP TABLE IF EXISTS ticks; CREATE TABLE ticks (n INT PRIMARY KEY) ENGINE=InnoDB");
    let mut child = writer(env);
    let (sender, receiver) = mpsc::channel();
    let lines = BufReader::new(child.child().stdout.take().expect("stdout")).lines();
    let reader = std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if let Ok(number) = line.trim().parse::<u64>() {
                let _ = sender.send((Instant::now(), number));
            }
        }
    });
    let mut seen = Vec::new();
    eventually(Duration::from_secs(60), "it is written", || {
        seen.extend(receiver.try_iter());
        if seen.len() > 50 {
            Ok(())
        } else {
            Err(seen.len())
        }
    });
    seen.extend(receiver.try_iter());
    let (_, acknowledged) = *seen.last().expect("numbers");
    let began = seen.len();
    let run = env
        .kubby(&["fork", &fork, "--keep-context", "-o", "json"])
        .ok();
    let at_end = Instant::now();
    eventually(Duration::from_secs(60), "the source goes on", || {
        seen.extend(receiver.try_iter());
        match seen.last() {
            Some((when, _)) if *when > at_end => Ok(()),
            last => Err(format!("{last:?}")),
        }
    });
    let pause = seen[began.saturating_sub(1)..]
        .windows(2)
        .map(|pair| pair[1].0 - pair[0].0)
        .max()
        .unwrap_or_default();
    note!(
        "fork under load: {:.1} s; the source's longest pause: {:.2} s",
        run.took.as_secs_f64(),
        pause.as_secs_f64()
    );
    child.kill();
    reader.join().expect("the reader ends");

    healthy(env, &fork);
    // The numbers have no gaps, so how many there are tells up to which.
    let there = rows(env, &fork);
    assert!(
        there >= acknowledged,
        "{acknowledged} were acknowledged before the fork, {there} are in it"
    );
    assert!(rows(env, &env.profile) > there);
    healthy(env, &env.profile);
    delete(env, &fork);
    // The writer in the source's pod has nobody to write to any more and ends by itself.
    sql("DROP TABLE ticks");
}

fn writer(env: &Env) -> Running {
    let mut command: Command = env.kubby_command();
    command
        .args(["-p", &env.profile, "kubectl", "--"])
        .args(["exec", "mysql-0", "--"])
        .args(inserts())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    Running::start(&mut command)
}
