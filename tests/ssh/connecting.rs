//! Making a connection: to the right server, to none, to one that is not ready.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use kubby::testing::error::{Error, Kind};
use kubby::testing::fsutil;
use kubby::testing::remote::{Remote, Ssh, Target, generate_key};

use crate::commands::noise;
use crate::server::{PATIENCE, Site, connected, free_port};

fn error_of(result: Result<Ssh, Error>) -> Error {
    match result {
        Ok(_) => panic!("connected, though it must not"),
        Err(e) => e,
    }
}

/// What a server that is not ready does with a connection.
#[derive(Clone, Copy)]
enum Behaviour {
    /// Closes it.
    Close,
    /// Keeps it without a word, as QEMU's user network does for a guest that still boots.
    Stall,
    /// Is the real server.
    Serve,
    /// Is the real server behind a line that takes little at a time.
    ServeSlowly,
}

/// A listener in front of `port` that treats the connections as listed, the last one for ever.
fn front(port: u16, behaviours: &'static [Behaviour]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    if matches!(behaviours, [Behaviour::ServeSlowly]) {
        rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 4096).unwrap();
    }
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for (n, client) in listener.incoming().enumerate() {
            let client = client.unwrap();
            match behaviours[n.min(behaviours.len() - 1)] {
                Behaviour::Close => drop(client),
                Behaviour::Stall => kept.push(client),
                how @ (Behaviour::Serve | Behaviour::ServeSlowly) => {
                    let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
                    let slow = matches!(how, Behaviour::ServeSlowly);
                    pipe(
                        client.try_clone().unwrap(),
                        server.try_clone().unwrap(),
                        slow,
                    );
                    pipe(server, client, slow);
                }
            }
        }
    });
    own
}

fn pipe(mut from: TcpStream, mut to: TcpStream, slow: bool) {
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(n) = from.read(&mut buffer) {
            if slow {
                std::thread::sleep(Duration::from_millis(1));
            }
            if n == 0 || to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}

fn when_ready(target: &Target, limit: Duration) -> Result<Ssh, Error> {
    Ssh::connect_when_ready(target, Instant::now() + limit, &mut |_| Ok(()))
}

#[test]
fn another_host_key_is_refused_at_once_with_both_fingerprints() {
    let (site, _running, _ssh) = connected();
    let mut target = site.target.clone();
    target.host_key = generate_key("other").unwrap().public_openssh;
    let begin = Instant::now();
    let e = error_of(when_ready(&target, PATIENCE));
    assert!(begin.elapsed() < PATIENCE / 2, "{:?}", begin.elapsed());
    assert_eq!(e.kind(), Kind::NodeUnreachable);
    assert!(e.message().contains("something else"), "{e}");
    assert_eq!(e.details()[0].1.matches("SHA256:").count(), 2, "{e:?}");
    assert!(!e.hints().is_empty());
    // Nothing was said about a user before that.
    let log = std::fs::read_to_string(site.path().join("sshd.log")).unwrap();
    assert_eq!(log.matches("Accepted publickey").count(), 1, "{log}");
    assert!(!log.contains("Failed publickey"), "{log}");
}

#[test]
fn a_server_without_that_kind_of_key_is_refused_at_once() {
    let site = Site::with_other_host_key_kind();
    let _running = site.start();
    let begin = Instant::now();
    let e = error_of(when_ready(&site.target, PATIENCE));
    assert!(begin.elapsed() < PATIENCE / 2, "{:?}", begin.elapsed());
    assert_eq!(e.kind(), Kind::NodeUnreachable);
    assert!(e.message().contains("not the node"), "{e:?}");
}

#[test]
fn a_key_that_the_server_does_not_know_is_refused_with_its_path() {
    let (site, _running, _ssh) = connected();
    let mut target = site.target.clone();
    target.private_key = site.path().join("stranger");
    let stranger = generate_key("stranger").unwrap();
    fsutil::write_atomic(
        &target.private_key,
        stranger.private_openssh.as_bytes(),
        0o600,
    )
    .unwrap();
    let e = error_of(when_ready(&target, PATIENCE));
    assert_eq!(e.kind(), Kind::NodeUnreachable);
    assert!(
        e.message().contains("refuses the SSH key") && e.message().contains("stranger"),
        "{e}"
    );
}

#[test]
fn missing_and_damaged_keys_are_told_apart_from_an_absent_node() {
    let site = Site::new();
    let mut target = site.target.clone();
    target.private_key = site.path().join("nowhere");
    let e = error_of(Ssh::connect(&target, PATIENCE));
    assert_eq!(e.kind(), Kind::State);
    assert!(e.message().contains("nowhere"), "{e}");
    let mut target = site.target.clone();
    target.host_key = "ssh-ed25519 damaged".into();
    assert_eq!(
        error_of(Ssh::connect(&target, PATIENCE)).kind(),
        Kind::State
    );
}

#[test]
fn nobody_listening_is_an_error_with_the_next_command() {
    let mut target = Site::new().target.clone();
    let site = Site::new();
    target.private_key = site.target.private_key.clone();
    target.port = free_port();
    let e = error_of(Ssh::connect(&target, PATIENCE));
    assert_eq!(e.kind(), Kind::NodeUnreachable);
    assert!(e.message().contains(&target.port.to_string()), "{e}");
    assert!(e.hints().iter().any(|h| h.contains("kubby start")), "{e:?}");
}

#[test]
fn a_server_that_comes_up_late_is_found() {
    let site = Site::new();
    let ready = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let mut ticks = Vec::new();
            let ssh =
                Ssh::connect_when_ready(&site.target, Instant::now() + PATIENCE, &mut |elapsed| {
                    ticks.push(elapsed);
                    Ok(())
                });
            (ssh, ticks)
        });
        std::thread::sleep(Duration::from_millis(1500));
        let running = site.start();
        let (ssh, ticks) = waiter.join().unwrap();
        (running, ssh, ticks)
    });
    let (_running, ssh, ticks) = ready;
    assert_eq!(ssh.unwrap().run("echo up").unwrap().text(), "up");
    assert!(ticks.len() > 5, "{ticks:?}");
    assert!(ticks.is_sorted(), "{ticks:?}");
}

#[test]
fn hanging_and_closed_attempts_are_repeated() {
    use Behaviour::{Close, Serve, Stall};
    let (site, _running, _ssh) = connected();
    let mut target = site.target.clone();
    target.port = front(site.target.port, &[Close, Stall, Close, Stall, Serve]);
    let begin = Instant::now();
    let mut ssh = when_ready(&target, PATIENCE).unwrap();
    assert_eq!(ssh.run("echo up").unwrap().text(), "up");
    assert!(
        begin.elapsed() < Duration::from_secs(15),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn a_line_that_takes_packets_in_part_loses_nothing() {
    let (site, _running, _ssh) = connected();
    let mut target = site.target.clone();
    target.port = front(site.target.port, &[Behaviour::ServeSlowly]);
    let mut ssh = Ssh::connect(&target, PATIENCE).unwrap();
    let data = noise(6 << 20);
    let output = ssh.exec("tee /dev/stderr", &data, Some(PATIENCE)).unwrap();
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
fn a_server_that_never_speaks_meets_the_deadline() {
    let site = Site::new();
    let mut target = site.target.clone();
    target.port = front(0, &[Behaviour::Stall]);
    let begin = Instant::now();
    let e = error_of(Ssh::connect(&target, Duration::from_millis(700)));
    assert_eq!(e.kind(), Kind::NodeUnreachable);
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
    let begin = Instant::now();
    let e = error_of(when_ready(&target, Duration::from_secs(3)));
    assert_eq!(e.kind(), Kind::NodeUnreachable);
    assert!(e.message().contains("did not answer"), "{e}");
    assert!(!e.causes().is_empty());
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn the_caller_can_stop_the_wait() {
    let site = Site::new();
    let mut target = site.target.clone();
    target.port = front(0, &[Behaviour::Stall]);
    let begin = Instant::now();
    let e = error_of(Ssh::connect_when_ready(
        &target,
        Instant::now() + PATIENCE,
        &mut |elapsed| {
            if elapsed < Duration::from_millis(300) {
                return Ok(());
            }
            Err(Error::new(Kind::Hypervisor, "the console shows a panic"))
        },
    ));
    assert_eq!(
        (e.kind(), e.message()),
        (Kind::Hypervisor, "the console shows a panic")
    );
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
}
