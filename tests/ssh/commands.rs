//! Commands: output, input, status, limits.

use std::time::{Duration, Instant};

use kubby::testing::error::Kind;
use kubby::testing::remote::{Remote, Ssh};

use crate::helper::Helper;
use crate::server::{PATIENCE, connected};

/// Several megabytes without any pattern that compression or line ends could hide behind.
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

#[test]
fn output_streams_and_status_come_back() {
    let (_site, _running, mut ssh) = connected();
    let output = ssh.run("echo out; echo err >&2; exit 7").unwrap();
    assert_eq!(output.status, 7);
    assert_eq!(output.stdout, b"out\n");
    assert_eq!(output.stderr, b"err\n");
    assert_eq!(ssh.run("true").unwrap().status, 0);
    assert_eq!(ssh.run("echo ' text '").unwrap().text(), " text");
}

#[test]
fn a_signal_counts_128_and_its_number() {
    let (_site, _running, mut ssh) = connected();
    for (signal, status) in [("TERM", 143), ("KILL", 137), ("HUP", 129), ("SEGV", 139)] {
        assert_eq!(
            ssh.run(&format!("kill -{signal} $$")).unwrap().status,
            status,
            "{signal}"
        );
    }
}

#[test]
fn a_failure_names_the_command_and_shows_its_last_output() {
    let (_site, _running, mut ssh) = connected();
    let output = ssh.run("echo secret; seq 100 >&2; exit 3").unwrap();
    let e = output.require("`seq 100`").unwrap_err();
    assert_eq!(e.kind(), Kind::Unhealthy);
    assert!(
        e.message().contains("seq 100") && e.message().contains("status 3"),
        "{e}"
    );
    assert!(e.details()[0].1.ends_with("\n100"), "{e:?}");
    assert!(!format!("{e:?}").contains("secret\n"), "{e:?}");
    let output = ssh.run("kubby-no-such-program").unwrap();
    let e = output.require("a program").unwrap_err();
    assert!(e.details()[0].1.contains("kubby-no-such-program"), "{e:?}");
}

#[test]
fn input_arrives_and_ends() {
    let (_site, _running, mut ssh) = connected();
    assert_eq!(ssh.run_with_input("wc -c", b"12345").unwrap().text(), "5");
    assert_eq!(ssh.run("cat").unwrap().stdout, b"");
}

#[test]
fn megabytes_flow_both_ways_at_once_on_all_streams() {
    let (_site, _running, mut ssh) = connected();
    let data = noise(8 << 20);
    let output = ssh.exec("tee /dev/stderr", &data, Some(PATIENCE)).unwrap();
    assert_eq!(output.status, 0);
    assert!(
        output.stdout == data,
        "stdout differs ({} bytes)",
        output.stdout.len()
    );
    assert!(
        output.stderr == data,
        "stderr differs ({} bytes)",
        output.stderr.len()
    );
}

#[test]
fn a_command_need_not_read_its_input() {
    let (_site, _running, mut ssh) = connected();
    let data = noise(8 << 20);
    let output = ssh
        .exec("head -c 3 | wc -c; exit 4", &data, Some(PATIENCE))
        .unwrap();
    assert_eq!((output.status, output.text().as_str()), (4, "3"));
    assert_eq!(ssh.run("echo next").unwrap().text(), "next");
}

#[test]
fn a_hanging_command_meets_its_limit_and_the_next_one_works() {
    let (site, _running, mut ssh) = connected();
    let begin = Instant::now();
    let limit = Some(Duration::from_secs(3));
    let e = ssh
        .exec("echo so far >&2; sleep 20", &[], limit)
        .unwrap_err();
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(e.kind(), Kind::Unhealthy);
    assert!(
        e.message().contains("sleep 20") && e.message().contains("did not end"),
        "{e}"
    );
    assert_eq!(e.details()[0].1, "so far");
    assert_eq!(
        ssh.exec("echo next", &[], Some(PATIENCE)).unwrap().text(),
        "next"
    );
    drop(site);
}

#[test]
fn a_lost_connection_is_an_error_and_comes_back_for_the_next_command() {
    let (_site, _running, mut ssh) = connected();
    let e = ssh.run("kill -9 $PPID; sleep 20").unwrap_err();
    assert_eq!(e.kind(), Kind::NodeUnreachable, "{e:?}");
    assert!(e.message().contains("was lost"), "{e}");
    assert_eq!(ssh.run("echo next").unwrap().text(), "next");
    // Lost between two commands: nothing of the next one was sent yet, so it is not an error.
    ssh.run("(sleep 0.3; kill -9 $PPID) >/dev/null 2>&1 </dev/null &")
        .unwrap();
    std::thread::sleep(Duration::from_millis(800));
    assert_eq!(ssh.run("echo next").unwrap().text(), "next");
}

#[test]
fn commands_that_cannot_be_sent_are_refused() {
    let (_site, _running, mut ssh) = connected();
    assert_eq!(ssh.run("a\0b").unwrap_err().kind(), Kind::Usage);
    assert_eq!(
        ssh.run(&format!(": {}", "x".repeat(40_000)))
            .unwrap_err()
            .kind(),
        Kind::Usage
    );
    assert_eq!(
        ssh.run(&format!(": {}", "x".repeat(29_000)))
            .unwrap()
            .status,
        0
    );
}

#[test]
fn several_connections_work_side_by_side() {
    fn is_send<T: Send>() {}
    is_send::<Ssh>();
    let (site, _running, _ssh) = connected();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let target = &site.target;
            scope.spawn(move || {
                let mut ssh = Ssh::connect(target, PATIENCE).unwrap();
                for round in 0..3 {
                    let text = format!("{n} {round}");
                    assert_eq!(ssh.run(&format!("echo {text}")).unwrap().text(), text);
                }
            });
        }
    });
}

#[test]
fn ctrl_c_ends_a_command_at_once() {
    let (site, _running, _ssh) = connected();
    let helper = Helper::new(&site.target, "run", "echo begun; sleep 20").spawn();
    // The helper has its handlers before it says so, and is then in the middle of the command.
    helper.await_begin();
    std::thread::sleep(Duration::from_millis(500));
    let begin = Instant::now();
    helper.signal(rustix::process::Signal::INT);
    assert_eq!(helper.wait().code, Some(130));
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
}
