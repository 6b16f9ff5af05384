//! Ctrl-C during a download. A program of its own, because the signal is for the whole process.

#[expect(dead_code, reason = "this program needs only a part of the server")]
mod http_server;

use std::io::Read;
use std::time::{Duration, Instant};

use http_server::{Reply, Server};
use kubby::testing::assets::download::{self, Limits, ResumingReader};
use kubby::testing::error::Kind;
use kubby::testing::progress::{Progress, Silent};

#[test]
fn an_interrupt_ends_a_download_that_gets_no_bytes() {
    kubby::testing::interrupt::install().unwrap();
    let server = Server::start(|_| Reply::ok(vec![0; 1000]).stall_after(10));
    let mut reader = ResumingReader::open(
        &server.url("/x"),
        "*/*",
        Silent.step("").sink(),
        Limits::default(),
    )
    .unwrap();
    reader.read_exact(&mut [0; 10]).unwrap();
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(200));
        signal_hook::low_level::raise(signal_hook::consts::SIGINT).unwrap();
    });
    let started = Instant::now();
    let error = download::from_io(reader.read(&mut [0; 10]).unwrap_err(), String::new);
    assert_eq!(error.kind(), Kind::Interrupted);
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
}
