//! Downloads against a server that cuts, stalls, lies and changes its mind.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod http_server;

use std::io::Read;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_server::{Reply, Server};
use kubby::testing::assets::download::{self, Failure, Limits, ResumingReader, failure};
use kubby::testing::error::{Kind, Result};
use kubby::testing::progress::{Progress, Silent, StepSink};
use sha2::{Digest, Sha256};

fn content() -> Vec<u8> {
    (0..200_000u32).flat_map(|n| n.to_le_bytes()).collect()
}

fn sha(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

fn quick() -> Limits {
    Limits {
        stall: Duration::from_millis(300),
        connect: Duration::from_secs(2),
        retries: 2,
        backoff: Duration::from_millis(5),
        ..Limits::default()
    }
}

/// Fetches `path` and expects `expected`; also tells what is in the folder afterwards.
fn fetch(server: &Server, path: &str, expected: &str) -> (Result<()>, Vec<PathBuf>, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let dest = dir.path().join("file");
    let sink = Silent.step("").sink();
    let result = download::fetch_to_file(&server.url(path), &dest, expected, &sink, &quick());
    let left = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    (result, left, std::fs::read(&dest).unwrap_or_default())
}

fn fails_with(server: &Server, path: &str, expected: &str) -> (Failure, String) {
    let (result, left, _) = fetch(server, path, expected);
    let error = result.unwrap_err();
    assert_eq!(left, Vec::<PathBuf>::new(), "something was left behind");
    assert_eq!(error.kind(), Kind::Assets);
    (failure(&error).unwrap(), error.message().to_owned())
}

#[test]
fn a_good_file_arrives_whole() {
    let server = Server::start(|_| Reply::ok(content()));
    let (result, left, got) = fetch(&server, "/x", &sha(&content()));
    result.unwrap();
    assert_eq!((left.len(), got), (1, content()));
}

#[test]
fn a_wrong_checksum_leaves_nothing_and_names_both() {
    let server = Server::start(|_| Reply::ok("evil"));
    let expected = sha(b"good");
    let (why, message) = fails_with(&server, "/x", &expected);
    assert_eq!(why, Failure::Checksum);
    assert!(
        message.contains(&expected) && message.contains(&sha(b"evil")),
        "{message}"
    );
    assert_eq!(
        server.requests().len(),
        1,
        "a bad checksum is no reason to try again"
    );
}

#[test]
fn a_cut_connection_goes_on_with_a_range() {
    let server = Server::start(|r| {
        let reply = Reply::ranged(r, &content(), "\"v1\"");
        if r.earlier < 3 {
            reply.cut_after(200_000)
        } else {
            reply
        }
    });
    let (result, _, got) = fetch(&server, "/x", &sha(&content()));
    result.unwrap();
    assert_eq!(got, content());
    let ranges: Vec<_> = server.requests().iter().map(|r| r.range).collect();
    assert_eq!(ranges, [None, Some(200_000), Some(400_000), Some(600_000)]);
}

#[test]
fn a_server_without_ranges_is_read_again_from_the_start() {
    let server = Server::start(|r| {
        let reply = Reply::ok(content()).header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT");
        if r.earlier == 0 {
            reply.cut_after(100_001)
        } else {
            reply
        }
    });
    let (result, _, got) = fetch(&server, "/x", &sha(&content()));
    result.unwrap();
    assert_eq!(got, content());
}

#[test]
fn without_proof_of_sameness_pieces_are_not_joined() {
    let server = Server::start(|r| {
        if r.earlier == 0 {
            Reply::ok(content()).cut_after(1000)
        } else {
            Reply::ok(content())
        }
    });
    assert_eq!(fails_with(&server, "/x", &sha(&content())).0, Failure::Cut);
}

#[test]
fn a_server_that_always_cuts_is_given_up() {
    let server = Server::start(|r| Reply::ranged(r, &content(), "\"v1\"").cut_after(0));
    assert_eq!(fails_with(&server, "/x", &sha(&content())).0, Failure::Cut);
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_missing_file_is_not_tried_twice() {
    let server = Server::start(|_| Reply::status(404));
    let (why, message) = fails_with(&server, "/x", &sha(b""));
    assert_eq!(why, Failure::NotFound);
    assert!(message.contains(&server.url("/x")), "{message}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_server_error_is_tried_again() {
    let server = Server::start(|r| {
        if r.earlier < 2 {
            Reply::status(500)
        } else {
            Reply::ok("good")
        }
    });
    fetch(&server, "/x", &sha(b"good")).0.unwrap();
    let server = Server::start(|_| Reply::status(503));
    assert_eq!(
        fails_with(&server, "/x", &sha(b"good")).0,
        Failure::Status(503)
    );
    let server = Server::start(|_| Reply::status(403));
    assert_eq!(
        fails_with(&server, "/x", &sha(b"good")).0,
        Failure::Status(403)
    );
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_silent_server_is_replaced_by_a_new_connection() {
    let server = Server::start(|r| {
        let reply = Reply::ranged(r, &content(), "\"v1\"");
        if r.earlier == 0 {
            reply.stall_after(5000)
        } else {
            reply
        }
    });
    let started = Instant::now();
    let (result, _, got) = fetch(&server, "/x", &sha(&content()));
    result.unwrap();
    assert_eq!(got, content());
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_server_that_stays_silent_is_given_up() {
    let server = Server::start(|r| Reply::ranged(r, &content(), "\"v1\"").stall_after(0));
    assert_eq!(fails_with(&server, "/x", &sha(&content())).0, Failure::Cut);
}

#[test]
fn a_file_that_changes_meanwhile_is_never_patched_together() {
    let new: Vec<u8> = content().iter().map(|b| !b).collect();
    let body = new.clone();
    let server = Server::start(move |r| {
        if r.earlier == 0 {
            Reply::ranged(r, &content(), "\"v1\"").cut_after(1000)
        } else {
            Reply::ranged(r, &body, "\"v2\"")
        }
    });
    let sink = Silent.step("").sink();
    let mut reader = ResumingReader::open(&server.url("/a"), "*/*", sink, quick()).unwrap();
    let error = download::from_io(
        reader.read_to_end(&mut Vec::new()).unwrap_err(),
        String::new,
    );
    assert_eq!(failure(&error), Some(Failure::Changed));
    // A file on disk can be begun anew.
    let (result, _, got) = fetch(&server, "/b", &sha(&new));
    result.unwrap();
    assert_eq!(got, new);
}

#[test]
fn redirects_are_followed() {
    let server = Server::start(|r| match r.path.as_str() {
        "/old" => Reply::status(302).header("Location", "/new"),
        "/new" => Reply::ok("good"),
        _ => Reply::status(404),
    });
    fetch(&server, "/old", &sha(b"good")).0.unwrap();
}

#[test]
fn a_host_out_of_reach_has_its_own_failure() {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    for url in [
        format!("http://127.0.0.1:{port}/x"),
        "http://host.invalid/x".to_owned(),
    ] {
        let opened = ResumingReader::open(&url, "*/*", Silent.step("").sink(), quick());
        let error = opened.err().unwrap();
        assert_eq!(
            failure(&error),
            Some(Failure::Unreachable),
            "{url}: {error}"
        );
    }
}

#[test]
fn bytes_are_reported() {
    #[derive(Default)]
    struct Recorder(Mutex<Vec<(u64, Option<u64>)>>);
    impl StepSink for Recorder {
        fn detail(&self, _: &str) {}
        fn bytes(&self, done: u64, total: Option<u64>) {
            self.0.lock().unwrap().push((done, total));
        }
    }
    let server = Server::start(|_| Reply::ok(content()));
    let recorder = Arc::new(Recorder::default());
    let url = server.url("/x");
    let mut reader = ResumingReader::open(&url, "*/*", recorder.clone(), quick()).unwrap();
    assert_eq!(reader.total(), Some(800_000));
    reader.read_to_end(&mut Vec::new()).unwrap();
    let seen = recorder.0.lock().unwrap();
    assert_eq!(
        (seen[0], seen[seen.len() - 1]),
        ((0, Some(800_000)), (800_000, Some(800_000)))
    );
}

#[test]
fn small_texts_are_read_and_big_ones_refused() {
    let server = Server::start(|r| match r.path.as_str() {
        "/small" => Reply::ok("hash"),
        _ => Reply::ok(vec![b'x'; (1 << 20) + 1]),
    });
    assert_eq!(
        download::fetch_text(&server.url("/small"), &quick()).unwrap(),
        "hash"
    );
    let error = download::fetch_text(&server.url("/big"), &quick()).unwrap_err();
    assert!(error.message().contains("bigger than"), "{error}");
}
