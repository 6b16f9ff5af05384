//! Another program on the API's port: kubby gives it nothing.

#![expect(clippy::unwrap_used, reason = "a test's own set-up may fail by panic")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kubby::testing::api::ApiClient;
use kubby::testing::error::Kind;

/// An authority and a certificate of it for 127.0.0.1, as files in a folder of this name.
fn authority(dir: &Path) {
    std::fs::create_dir(dir).unwrap();
    let ec = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    let run = |args: &str| {
        let openssl = Command::new("openssl")
            .args(args.split(' '))
            .current_dir(dir)
            .stderr(Stdio::null())
            .status();
        assert!(openssl.unwrap().success(), "openssl {args}");
    };
    run(&format!(
        "{ec} -subj /CN=kubernetes -keyout ca.key -out ca.crt"
    ));
    run(&format!(
        "{ec} -CA ca.crt -CAkey ca.key -subj /CN=kube-apiserver -addext \
         subjectAltName=IP:127.0.0.1 -addext basicConstraints=CA:FALSE -keyout key -out crt"
    ));
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server with the certificate in this folder, and its port.
fn serve(dir: &Path) -> (Server, u16) {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let server = Command::new("openssl")
        .args(["s_server", "-www", "-cert", "crt", "-key", "key", "-accept"])
        .arg(format!("127.0.0.1:{port}"))
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let server = Server(server.unwrap());
    let end = Instant::now() + Duration::from_secs(30);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < end, "openssl does not listen");
        std::thread::sleep(Duration::from_millis(30));
    }
    (server, port)
}

#[test]
fn what_is_not_of_the_clusters_authority_is_not_the_api() {
    let tmp = tempfile::tempdir().unwrap();
    let [own, other] = ["own", "other"].map(|name| tmp.path().join(name));
    authority(&own);
    authority(&other);
    let read = |name: &str| std::fs::read_to_string(own.join(name)).unwrap();
    let client = |port| ApiClient::new(port, &read("ca.crt"), &read("crt"), &read("key")).unwrap();

    let (_real, port) = serve(&own);
    assert!(client(port).get("/").unwrap().is_ok());

    let (_impostor, port) = serve(&other);
    let e = client(port).get("/").unwrap_err();
    assert_eq!(e.kind(), Kind::Unhealthy);
    let causes = e.causes().join(" ");
    assert!(causes.to_lowercase().contains("certificate"), "{causes}");
}
