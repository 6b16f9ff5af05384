//! Commands that are fed and read piece by piece, and sockets that lead into the node.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use kubby::testing::remote::{Process, Remote, bridge};

use crate::commands::noise;
use crate::server::connected;

#[test]
fn a_command_is_fed_and_its_output_comes_with_its_status() {
    let (_site, _running, mut ssh) = connected();
    let data = noise(6 << 20);
    let mut process = Process::start(&mut ssh, "wc -c; echo err >&2; exit 6").unwrap();
    for piece in data.chunks(100_000) {
        assert!(process.write(piece).unwrap());
    }
    let output = process.finish(&mut ssh).unwrap();
    assert_eq!(output.status, 6);
    assert_eq!(output.text(), data.len().to_string());
    assert_eq!(output.stderr, b"err\n");
    assert_eq!(ssh.run("echo next").unwrap().text(), "next");
}

#[test]
fn output_of_any_length_is_read_and_only_the_end_of_errors_kept() {
    let (_site, _running, mut ssh) = connected();
    let command = "seq 1 300000 >&2; seq 1 300000";
    let mut process = Process::start(&mut ssh, command).unwrap();
    let mut text = Vec::new();
    let mut buffer = [0; 50_000];
    loop {
        match process.read(&mut buffer).unwrap() {
            0 => break,
            n => text.extend_from_slice(&buffer[..n]),
        }
    }
    let expected: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    assert!(text == expected.as_bytes(), "{} bytes", text.len());
    let output = process.finish(&mut ssh).unwrap();
    assert_eq!(output.status, 0);
    assert!(output.stderr.ends_with(b"\n300000\n"));
    assert!(output.stderr.len() < 200_000, "{}", output.stderr.len());
}

#[test]
fn a_command_that_stops_reading_is_noticed() {
    let (_site, _running, mut ssh) = connected();
    let mut process = Process::start(&mut ssh, "head -c 10; echo no >&2; exit 4").unwrap();
    let piece = noise(1 << 20);
    let more = (0..200).all(|_| process.write(&piece).unwrap());
    assert!(!more, "200 MiB were taken by nobody");
    let output = process.finish(&mut ssh).unwrap();
    assert_eq!((output.status, &output.stderr[..]), (4, &b"no\n"[..]));
}

#[test]
fn a_socket_leads_to_a_command_both_ways() {
    let (site, _running, _ssh) = connected();
    let (mut near, far) = UnixStream::pair().unwrap();
    let target = site.target.clone();
    let bridged = std::thread::spawn(move || bridge(&target, "cat; echo end", &far));
    let data = noise(3 << 20);
    let sent = data.clone();
    let mut writer = near.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    near.read_to_end(&mut back).unwrap();
    writing.join().unwrap();
    bridged.join().unwrap().unwrap();
    assert!(back.ends_with(b"end\n") && back[..data.len()] == data[..]);
    // When this side goes, the command ends with it.
    let (near, far) = UnixStream::pair().unwrap();
    let target = site.target.clone();
    let bridged = std::thread::spawn(move || bridge(&target, "cat", &far));
    drop(near);
    bridged.join().unwrap().unwrap();
}
