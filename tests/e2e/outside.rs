//! Servers outside of the cluster in these tests: a registry, a proxy and a name server on
//! this host's loopback, each of which writes down what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::image::{digest, image};

/// A server that remembers its requests; it ends with the test program.
pub struct Server {
    pub port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Whether it was asked something with these words.
    pub fn saw(&self, words: &str) -> bool {
        let seen = self.seen.lock().expect("the log");
        seen.iter().any(|line| line.contains(words))
    }

    /// All that it was asked, for messages.
    pub fn log(&self) -> String {
        self.seen.lock().expect("the log").join("\n")
    }

    fn start(serve: impl Fn(TcpStream, &Mutex<Vec<String>>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, serve) = (Arc::clone(&seen), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, serve) = (Arc::clone(&log), Arc::clone(&serve));
                let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
                std::thread::spawn(move || serve(stream, &log));
            }
        });
        Server { port, seen }
    }
}

/// A registry with one image under whatever name.
pub fn registry() -> Server {
    Server::start(answer)
}

/// The same with TLS; `certificate` and `key` are DER.
pub fn tls_registry(certificate: Vec<u8>, key: Vec<u8>) -> Server {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.into()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key).into(),
        )
        .expect("a certificate");
    let config = Arc::new(config);
    Server::start(move |stream, log| {
        let connection = rustls::ServerConnection::new(Arc::clone(&config)).expect("TLS");
        answer(rustls::StreamOwned::new(connection, stream), log);
    })
}

/// Reads the head of a request; `None` where the client went away.
fn head(stream: &mut impl Read) -> Option<Vec<String>> {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 || text.len() > 65536 {
            return None;
        }
        text.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    Some(text.lines().map(str::to_owned).collect())
}

/// Answers one request as a registry.
fn answer(mut stream: impl Read + Write, log: &Mutex<Vec<String>>) {
    let Some(head) = head(&mut stream) else {
        return;
    };
    log.lock().expect("the log").push(head[0].clone());
    let mut words = head[0].split(' ');
    let method = words.next().unwrap_or_default();
    let path = words.next().unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let image = image();
    let blobs = [&image.config, &image.layer];
    let found: Option<(&str, &[u8])> = if path == "/v2/" {
        Some(("application/json", b"{}"))
    } else if path.contains("/manifests/") {
        let kind = "application/vnd.oci.image.manifest.v1+json";
        Some((kind, &image.manifest))
    } else {
        blobs
            .into_iter()
            .find(|blob| path.ends_with(&digest(blob)))
            .map(|blob| ("application/octet-stream", blob.as_slice()))
    };
    let (status, kind, body) = match found {
        Some((kind, body)) => ("200 OK", kind, body),
        None => ("404 Not Found", "text/plain", &b"no such thing\n"[..]),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Docker-Content-Digest: {}\r\n\r\n",
        body.len(),
        digest(body)
    );
    let _ = stream.write_all(head.as_bytes());
    if method == "GET" {
        let _ = stream.write_all(body);
    }
    let _ = stream.flush();
}

/// An HTTP proxy that leads everything, whatever its name, to one port of this host. What it
/// writes down are requests and their `Proxy-Authorization`.
pub fn proxy(to: u16) -> Server {
    Server::start(move |mut stream, log| {
        let Some(head) = head(&mut stream) else {
            return;
        };
        {
            let mut log = log.lock().expect("the log");
            log.push(head[0].clone());
            let of_proxy = |l: &&String| l.to_ascii_lowercase().starts_with("proxy-authorization");
            log.extend(head.iter().find(of_proxy).cloned());
        }
        let mut server = TcpStream::connect(("127.0.0.1", to)).expect("the registry");
        if head[0].starts_with("CONNECT ") {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        } else {
            let mut words = head[0].splitn(3, ' ');
            let method = words.next().unwrap_or_default();
            let url = words.next().unwrap_or_default();
            let after_host = url.splitn(4, '/').nth(3).unwrap_or_default();
            let mut request = format!("{method} /{after_host} HTTP/1.1\r\nConnection: close\r\n");
            for line in head[1..].iter().filter(|l| !l.is_empty()) {
                let lower = line.to_ascii_lowercase();
                if !lower.starts_with("proxy-") && !lower.starts_with("connection:") {
                    request.push_str(&format!("{line}\r\n"));
                }
            }
            request.push_str("\r\n");
            let _ = server.write_all(request.as_bytes());
        }
        let mut to_server = server.try_clone().expect("a handle");
        let mut from_client = stream.try_clone().expect("a handle");
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from_client, &mut to_server);
        });
        let _ = std::io::copy(&mut server, &mut stream);
        let _ = stream.shutdown(std::net::Shutdown::Both);
    })
}

/// The address that [`name_server`] gives.
pub const RESOLVED: &str = "192.0.2.7";

/// A name server for everything below `kubby-test`. Names that begin with `long` have to be asked
/// over TCP.
pub fn name_server() -> Server {
    let server = Server::start(|stream, log| {
        let mut reader = BufReader::new(stream);
        let mut length = [0; 2];
        while reader.read_exact(&mut length).is_ok() {
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            if reader.read_exact(&mut query).is_err()
                || reader.fill_buf().is_err() && query.is_empty()
            {
                return;
            }
            let Some(reply) = resolve(&query, false, log) else {
                return;
            };
            let length = u16::try_from(reply.len()).expect("a short reply");
            let mut out = length.to_be_bytes().to_vec();
            out.extend(reply);
            if reader.get_mut().write_all(&out).is_err() {
                return;
            }
        }
    });
    let socket = UdpSocket::bind(("127.0.0.1", server.port)).expect("a socket");
    let log = Arc::clone(&server.seen);
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((n, from)) = socket.recv_from(&mut buffer) {
            if let Some(reply) = resolve(&buffer[..n], true, &log) {
                let _ = socket.send_to(&reply, from);
            }
        }
    });
    server
}

/// The reply to one query, see RFC 1035.
fn resolve(query: &[u8], udp: bool, log: &Mutex<Vec<String>>) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    let name = labels.join(".");
    let transport = if udp { "udp" } else { "tcp" };
    log.lock()
        .expect("the log")
        .push(format!("{transport} {name} {kind}"));
    let known = labels.last().is_some_and(|l| l == "kubby-test");
    let truncated = udp && known && name.starts_with("long");
    let answered = known && kind == 1 && !truncated;
    let mut reply = query[..2].to_vec();
    reply.push(0x81 | if truncated { 2 } else { 0 } | 4);
    reply.push(0x80 | if known { 0 } else { 3 });
    reply.extend([0, 1, 0, u8::from(answered), 0, 0, 0, 0]);
    reply.extend(&query[12..at + 4]);
    if answered {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 192, 0, 2, 7]);
    }
    Some(reply)
}
