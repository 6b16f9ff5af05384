//! Servers that mean ill: whatever they send, kubby ends in time, with little memory, and what it
//! shows of them does nothing to the user's terminal.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use kubby::testing::error::Kind;
use kubby::testing::remote::{Process, Remote, Ssh, Target};

use crate::server::{PATIENCE, Site, connected};

/// What a server does with a connection.
type Act = fn(&mut TcpStream);

/// A server that does this with every connection, and a target that leads to it.
fn server(act: Act) -> (Site, Target) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = Site::new();
    let mut target = site.target.clone();
    target.port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            std::thread::spawn(move || {
                act(&mut client);
                // What the client says is read, so that it does not wait for that.
                let _ = std::io::copy(&mut client, &mut std::io::sink());
            });
        }
    });
    (site, target)
}

/// Sends the same bytes until nobody takes them.
fn without_end(client: &mut TcpStream, bytes: &[u8]) {
    let many = bytes.repeat(65536 / bytes.len() + 1);
    while client.write_all(&many).is_ok() {}
}

/// A packet before there is encryption.
fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 8 - (5 + payload.len()) % 8 + 8;
    let length = u32::try_from(1 + payload.len() + padding).unwrap();
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.push(u8::try_from(padding).unwrap());
    bytes.extend(payload);
    bytes.resize(bytes.len() + padding, 0);
    bytes
}

fn greet(client: &mut TcpStream) {
    client.write_all(b"SSH-2.0-OpenSSH_10.0\r\n").unwrap();
}

/// The peak of this process's memory, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn none_gets_hold_of_kubby_before_it_has_shown_its_key() {
    let table: [(&str, Act); 9] = [
        ("lines without end before the greeting", |c| {
            without_end(c, b"wait\r\n")
        }),
        ("empty lines without end", |c| without_end(c, b"\r\n")),
        ("a greeting that begins well and has no end", |c| {
            c.write_all(b"SSH-2.0-").unwrap();
            without_end(c, b"x");
        }),
        ("lines without end that begin well", |c| {
            without_end(c, b"SSH-\r\n")
        }),
        ("half a greeting, then lines without end", |c| {
            c.write_all(b"SS").unwrap();
            std::thread::sleep(Duration::from_millis(300));
            without_end(c, b"x\r\n");
        }),
        ("a packet of four gigabytes", |c| {
            greet(c);
            without_end(c, &[0xff; 64]);
        }),
        ("packets that say nothing, without end", |c| {
            greet(c);
            without_end(c, &packet(b"\x02\0\0\0\x04none"));
        }),
        ("garbage", |c| {
            greet(c);
            without_end(c, &packet(&[20; 900]));
        }),
        ("one byte at a time", |c| {
            for byte in b"SSH-2.0-OpenSSH_10.0_with_a_name_that_takes_its_time".repeat(20) {
                std::thread::sleep(Duration::from_millis(100));
                if c.write_all(&[byte]).is_err() {
                    return;
                }
            }
        }),
    ];
    let before = peak();
    std::thread::scope(|scope| {
        for (what, act) in table {
            scope.spawn(move || {
                let (_site, target) = server(act);
                let begin = Instant::now();
                let result = Ssh::connect(&target, Duration::from_secs(8));
                let took = begin.elapsed();
                let Err(e) = result else {
                    panic!("{what}: connected")
                };
                assert_eq!(e.kind(), Kind::NodeUnreachable, "{what}: {e:?}");
                assert!(!e.hints().is_empty(), "{what}: {e:?}");
                assert!(took < Duration::from_secs(25), "{what}: {took:?}");
            });
        }
    });
    let grown = peak() - before;
    assert!(grown < 256 * 1024, "{grown} KiB more were in use");
}

#[test]
fn a_command_that_writes_without_end_is_ended() {
    let (_site, _running, mut ssh) = connected();
    for command in ["yes", "yes >&2"] {
        let begin = Instant::now();
        let e = ssh.run(command).unwrap_err();
        assert_eq!(e.kind(), Kind::Unhealthy, "{e:?}");
        assert!(e.message().contains("64 MiB"), "{e}");
        assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
        assert_eq!(ssh.run("echo next").unwrap().text(), "next");
    }
    // What is read piece by piece has no such bound, and what is kept of its errors has.
    let mut process = Process::start(&mut ssh, "head -c 80000000 /dev/zero >&2").unwrap();
    while process.read(&mut [0; 65536]).unwrap() > 0 {}
    assert!(process.finish(&mut ssh).unwrap().stderr.len() <= 128 * 1024);
}

#[test]
fn what_a_failed_command_says_is_kept_short() {
    let (_site, _running, mut ssh) = connected();
    let output = ssh
        .run("head -c 3000000 /dev/zero | tr '\\0' x >&2; exit 1")
        .unwrap();
    let e = output.require("a command").unwrap_err();
    assert!(
        e.details()[0].1.len() < 20_000,
        "{}",
        e.details()[0].1.len()
    );
}

#[test]
fn a_server_that_stops_within_the_key_exchange_is_given_up() {
    let (_site, target) = server(|client| {
        greet(client);
        let mut buffer = [0; 4096];
        // The client's greeting and its first packet, and then nothing.
        let _ = client.read(&mut buffer);
    });
    let begin = Instant::now();
    let Err(e) = Ssh::connect(&target, Duration::from_secs(3)) else {
        panic!("connected")
    };
    assert_eq!(e.kind(), Kind::NodeUnreachable);
    assert!(begin.elapsed() < Duration::from_secs(10));
}
