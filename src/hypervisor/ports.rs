//! Free ports on 127.0.0.1 for a node's SSH, API and links.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use super::forward::Protocol;
use crate::error::{Error, Kind, Result, ResultExt};

/// More tries than this mean that the range of free ports is used up.
const TRIES: usize = 1000;

/// Finds `count` different ports, free for TCP and UDP, that are not in `avoid`, which holds what other profiles
/// have recorded and may use again when they start.
///
/// # Errors
/// [`Kind::Preflight`] when the host has no such ports left.
pub fn find_free(count: usize, avoid: &BTreeSet<u16>) -> Result<Vec<u16>> {
    // All sockets stay open until the end, so that no port is handed out twice.
    let mut held = Vec::new();
    let mut found = Vec::new();
    for _ in 0..TRIES {
        if found.len() == count {
            return Ok(found);
        }
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .context(Kind::Preflight, || {
                "cannot find a free TCP port on 127.0.0.1".into()
            })?;
        let port = socket
            .local_addr()
            .context(Kind::Internal, || {
                "cannot read the number of a free TCP port".into()
            })?
            .port();
        held.push(socket);
        let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if free && !avoid.contains(&port) && !is_simulated(port) {
            found.push(port);
        }
    }
    Err(Error::preflight("there are no free TCP ports on 127.0.0.1")
        .with_hint("see what uses them: ss -ltn"))
}

/// Returns whether a port of 127.0.0.1 can be used now, also by this user's privileges.
pub(crate) fn can_be_had(protocol: Protocol, port: u16) -> bool {
    if is_simulated(port) {
        return false;
    }
    match protocol {
        Protocol::Tcp => TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok(),
        Protocol::Udp => UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok(),
    }
}

/// Checks that nothing listens on a port of 127.0.0.1 that the user asked for; `flag` is the option
/// that named it, such as `--api-port`.
///
/// # Errors
/// [`Kind::Preflight`] with the port and the flag when it is taken, or when it cannot be tried, such as
/// one below 1024 without privilege.
pub(crate) fn check_free(port: u16, flag: &str) -> Result<()> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) if !is_simulated(port) => Ok(()),
        Err(e) if e.kind() != ErrorKind::AddrInUse && !is_simulated(port) => {
            Err(Error::preflight(format!("cannot use the TCP port {port}"))
                .with_source(e)
                .with_hint("ports below 1024 need privileges; choose a higher one"))
        }
        _ => Err(
            Error::preflight(format!("the TCP port {port} on 127.0.0.1 is taken"))
                .with_hint(format!(
                    "choose another one with {flag}, or leave {flag} out"
                ))
                .with_hint(format!("see what uses it: ss -ltnp 'sport = :{port}'")),
        ),
    }
}

/// Returns whether a test's machine in memory has the port, on which no program listens.
fn is_simulated(_port: u16) -> bool {
    #[cfg(test)]
    if crate::process::simulated::is_port_taken(_port) {
        return true;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_are_distinct_and_free() {
        let ports = find_free(20, &BTreeSet::new()).unwrap();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 20);
        assert!(find_free(0, &BTreeSet::new()).unwrap().is_empty());
    }

    #[test]
    fn avoided_ports_are_not_given() {
        // All but the odd ports are taken: what is found must be odd.
        let even: BTreeSet<u16> = (0..=u16::MAX).filter(|p| p % 2 == 0).collect();
        assert!(find_free(5, &even).unwrap().iter().all(|p| p % 2 == 1));
        let all: BTreeSet<u16> = (0..=u16::MAX).collect();
        assert_eq!(find_free(1, &all).unwrap_err().kind(), Kind::Preflight);
    }

    #[test]
    fn a_taken_port_is_named_with_its_flag() {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let e = check_free(port, "--api-port").unwrap_err();
        assert_eq!(e.kind(), Kind::Preflight);
        assert!(e.message().contains(&port.to_string()));
        assert!(e.hints()[0].contains("--api-port"));
        drop(socket);
        check_free(port, "--api-port").unwrap();
    }

    #[test]
    fn the_transports_have_ports_of_their_own() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(!can_be_had(Protocol::Udp, port));
        drop(socket);
        assert!(can_be_had(Protocol::Udp, port));
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!can_be_had(
            Protocol::Tcp,
            socket.local_addr().unwrap().port()
        ));
    }

    #[test]
    fn a_listener_on_all_addresses_takes_the_port_too() {
        let socket = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let e = check_free(port, "--api-port").unwrap_err();
        assert!(e.message().ends_with("is taken"), "{e}");
    }
}
