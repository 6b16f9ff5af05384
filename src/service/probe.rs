//! The check that connections to a port of this host reach a server in the node.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::wait;

/// A connection that is refused in the node ends within this time.
const REFUSAL: Duration = Duration::from_millis(250);

/// The pause between two attempts.
const TRY_EVERY: Duration = Duration::from_millis(200);

/// Waits until connections to a port are no longer refused: kube-proxy needs a moment to learn of a
/// new Service. Returns whether that happened in time.
///
/// # Errors
/// [`crate::error::Kind::Interrupted`] on Ctrl-C.
pub(crate) fn wait_open(port: u16, limit: Duration) -> Result<bool> {
    let open = wait::poll(Instant::now() + limit, TRY_EVERY, || {
        Ok(is_open(port).then_some(()))
    })?;
    Ok(open.is_some())
}

/// Returns whether a connection reaches the node. QEMU accepts every connection on the host and
/// closes it when the node refuses it: one that stays, or has data, has arrived.
fn is_open(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(mut stream) = TcpStream::connect_timeout(&address, REFUSAL) else {
        return false;
    };
    if stream.set_read_timeout(Some(REFUSAL)).is_err() {
        return false;
    }
    match stream.read(&mut [0]) {
        Ok(n) => n > 0,
        Err(e) => matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    #[test]
    fn a_port_is_open_when_connections_stay() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            // Refused twice as QEMU does it, then a server that speaks first, then a silent one.
            drop(listener.accept().unwrap());
            drop(listener.accept().unwrap());
            listener
                .accept()
                .unwrap()
                .0
                .write_all(b"220 hello")
                .unwrap();
            let silent = listener.accept().unwrap();
            std::thread::sleep(REFUSAL * 2);
            drop(silent);
        });
        assert!(wait_open(port, Duration::from_secs(20)).unwrap());
        assert!(is_open(port), "a server that waits for a request");
        server.join().unwrap();
        assert!(!wait_open(port, Duration::ZERO).unwrap(), "no server");
    }
}
