//! Ports of the host that lead into a running machine: the commands to QEMU's monitor and its
//! answers.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The id of the node's network in QEMU.
pub(super) const NETDEV: &str = "kubby0";

/// The transport of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    /// Returns the name in QEMU's rules: `tcp` or `udp`.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name().to_uppercase())
    }
}

/// A port of 127.0.0.1 on the host that leads to a port of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortForward {
    /// The transport of both ports.
    pub protocol: Protocol,
    /// The port on the host's 127.0.0.1.
    pub host: u16,
    /// The port in the guest.
    pub guest: u16,
}

impl PortForward {
    /// Returns a TCP port of the host that leads to one of the guest.
    pub fn tcp(host: u16, guest: u16) -> Self {
        PortForward {
            protocol: Protocol::Tcp,
            host,
            guest,
        }
    }

    /// Returns a UDP port of the host that leads to one of the guest.
    pub fn udp(host: u16, guest: u16) -> Self {
        PortForward {
            protocol: Protocol::Udp,
            ..PortForward::tcp(host, guest)
        }
    }

    /// Returns the rule as QEMU writes it. Only numbers are put in, so nothing has to be quoted;
    /// without an address of the guest QEMU takes its own network's first, which the node has.
    pub(super) fn rule(self) -> String {
        format!(
            "{}:127.0.0.1:{}-:{}",
            self.protocol.name(),
            self.host,
            self.guest
        )
    }

    pub(super) fn add_command(self) -> String {
        format!("hostfwd_add {NETDEV} {}", self.rule())
    }

    pub(super) fn remove_command(self) -> String {
        format!(
            "hostfwd_remove {NETDEV} {}:127.0.0.1:{}",
            self.protocol.name(),
            self.host
        )
    }
}

/// The command that lists the rules.
pub(super) const LIST_COMMAND: &str = "info usernet";

/// Reads the answer to `hostfwd_add`, which is empty for success.
pub(super) fn check_added(forward: PortForward, answer: &str) -> Result<()> {
    let answer = answer.trim();
    if answer.is_empty() {
        return Ok(());
    }
    let PortForward { protocol, host, .. } = forward;
    Err(Error::preflight(format!(
        "QEMU cannot listen on the {protocol} port {host} of 127.0.0.1"
    ))
    .with_source(answer.to_owned())
    .with_hint(format!(
        "see what uses it: ss -ln{}p 'sport = :{host}'",
        if protocol == Protocol::Tcp { "t" } else { "u" }
    )))
}

/// Reads the answer to `hostfwd_remove`; returns whether there was such a rule.
///
/// # Errors
/// [`Kind::Hypervisor`](crate::error::Kind::Hypervisor) for words that mean neither.
pub(super) fn check_removed(answer: &str) -> Result<bool> {
    let answer = answer.trim();
    if answer.ends_with("removed") {
        Ok(true)
    } else if answer.ends_with("not found") {
        Ok(false)
    } else {
        Err(Error::hypervisor("QEMU does not remove a forwarded port")
            .with_source(answer.to_owned()))
    }
}

/// Reads the answer to `info usernet`: the rules on 127.0.0.1.
pub(super) fn parse_list(answer: &str) -> Vec<PortForward> {
    answer.lines().filter_map(parse_line).collect()
}

/// Reads a line such as `TCP[HOST_FORWARD]  13  127.0.0.1 40022  10.0.2.15  22  0  0`.
fn parse_line(line: &str) -> Option<PortForward> {
    let mut words = line.split_whitespace();
    let protocol = match words.next()? {
        "TCP[HOST_FORWARD]" => Protocol::Tcp,
        "UDP[HOST_FORWARD]" => Protocol::Udp,
        _ => return None,
    };
    let _descriptor = words.next()?;
    (words.next()? == "127.0.0.1").then_some(())?;
    let host = words.next()?.parse().ok()?;
    let _address = words.next()?;
    let guest = words.next()?.parse().ok()?;
    Some(PortForward {
        protocol,
        host,
        guest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    /// As QEMU 10 prints it, with a connection in use.
    const LIST: &str = "Hub -1 (kubby0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
         TCP[ESTABLISHED]   38       127.0.0.1 40022       10.0.2.15    22     0     0\r\n  \
         TCP[HOST_FORWARD]  24       127.0.0.1 40022       10.0.2.15    22     0     0\r\n  \
         TCP[HOST_FORWARD]  25       127.0.0.1  6443       10.0.2.15  6443     0     0\r\n  \
         UDP[HOST_FORWARD]  26       127.0.0.1 30053       10.0.2.15 30053     0     0\r\n  \
         UDP[236 sec]       27       10.0.2.15 39000        10.0.2.3    53     0     0\r\n";

    #[test]
    fn rules_are_read_from_qemus_list() {
        let udp = PortForward {
            protocol: Protocol::Udp,
            host: 30053,
            guest: 30053,
        };
        assert_eq!(
            parse_list(LIST),
            [
                PortForward::tcp(40022, 22),
                PortForward::tcp(6443, 6443),
                udp
            ]
        );
        assert_eq!(parse_list("no usernet"), []);
    }

    #[test]
    fn commands_are_bound_to_loopback() {
        let forward = PortForward::tcp(8080, 30080);
        assert_eq!(
            forward.add_command(),
            "hostfwd_add kubby0 tcp:127.0.0.1:8080-:30080"
        );
        assert_eq!(
            forward.remove_command(),
            "hostfwd_remove kubby0 tcp:127.0.0.1:8080"
        );
    }

    #[test]
    fn answers_are_understood() {
        let forward = PortForward::tcp(8080, 30080);
        check_added(forward, "\r\n").unwrap();
        let e = check_added(
            forward,
            "Could not set up host forwarding rule 'tcp:127.0.0.1:8080-:30080'\r\n",
        )
        .unwrap_err();
        assert_eq!(e.kind(), Kind::Preflight);
        assert!(e.message().contains("8080") && e.hints()[0].contains("ss -lntp"));
        assert!(check_removed("host forwarding rule for tcp:127.0.0.1:8080 removed\r\n").unwrap());
        assert!(
            !check_removed("host forwarding rule for tcp:127.0.0.1:8080 not found\r\n").unwrap()
        );
        assert_eq!(
            check_removed("unknown command").unwrap_err().kind(),
            Kind::Hypervisor
        );
    }
}
