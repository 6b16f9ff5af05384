//! `exec_streaming` on pipes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::commands::noise;
use crate::helper::Helper;
use crate::server::{Site, connected};

#[test]
fn streams_are_separate_and_the_status_is_passed_on() {
    let (site, _running, _ssh) = connected();
    let ended = Helper::new(&site.target, "exec", "echo out; echo err >&2; exit 9")
        .spawn()
        .wait();
    assert_eq!(ended.code, Some(9));
    assert_eq!(ended.stdout, b"out\n");
    assert_eq!(ended.stderr, b"err\n");
    let ended = Helper::new(&site.target, "exec", "kill -TERM $$")
        .spawn()
        .wait();
    assert_eq!(ended.code, Some(143));
    let ended = Helper::new(&site.target, "exec", "test -t 0")
        .spawn()
        .wait();
    assert_eq!(ended.code, Some(1));
}

#[test]
fn megabytes_pass_through_and_the_end_of_input_with_them() {
    let (site, _running, _ssh) = connected();
    let data = noise(8 << 20);
    let mut helper = Helper::new(&site.target, "exec", "tee /dev/stderr; exit 5").spawn();
    helper.stdin.take().unwrap().write_all(&data).unwrap();
    let ended = helper.wait();
    assert_eq!(ended.code, Some(5));
    assert!(
        ended.stdout == data,
        "stdout differs ({} bytes)",
        ended.stdout.len()
    );
    assert!(
        ended.stderr == data,
        "stderr differs ({} bytes)",
        ended.stderr.len()
    );
}

#[test]
fn output_is_not_held_back_and_open_input_does_not_delay_the_end() {
    let (site, _running, _ssh) = connected();
    let command = "printf first; read line; echo \"got $line\"; exit 3";
    let mut helper = Helper::new(&site.target, "exec", command).spawn();
    helper.expect("first");
    helper.send("hello\n");
    // Standard input is still open here.
    let ended = helper.wait();
    assert_eq!(ended.code, Some(3));
    assert_eq!(ended.stdout, b"firstgot hello\n");
}

#[test]
fn a_reader_that_leaves_ends_the_command() {
    let (site, _running, _ssh) = connected();
    let mark = site.path().join("ended");
    let endless = format!("(yes; echo > {})", mark.display());
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{} ", Helper::shell_command())]);
    let mut child = Helper::new(&site.target, "exec", &endless)
        .apply(&mut command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while line != "y\n" {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0);
    }
    drop(reader);
    let begin = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(141));
    assert!(begin.elapsed() < Duration::from_secs(10));
    // `yes` in the node has met a closed pipe as well and is not left behind.
    while !mark.exists() {
        assert!(
            begin.elapsed() < Duration::from_secs(30),
            "`yes` still runs"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_slow_reader_gets_everything() {
    let (site, _running, _ssh) = connected();
    let mut command = Command::new("sh");
    let pipeline = format!(
        "{} | (sleep 2; tail -c 6000000 | wc -c)",
        Helper::shell_command()
    );
    command.args(["-c", &pipeline]);
    let helper = Helper::new(&site.target, "exec", "head -c 6000000 /dev/zero");
    let output = helper
        .apply(&mut command)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "6000000");
}

#[test]
fn an_absent_node_gives_its_exit_code() {
    let site = Site::new();
    let ended = Helper::new(&site.target, "exec", "true").spawn().wait();
    assert_eq!(ended.code, Some(13));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("cannot reach the node"));
}
