//! Ports of the host's loopback that the user opens to the cluster.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::hypervisor::Protocol;

/// The programs that may connect to a port of the host; those of the later one include the earlier one's.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Callers {
    /// The programs of the nodes that run as root, such as kube-apiserver for webhooks; no pods
    Api,
    /// Pods, and the programs of the nodes
    #[default]
    Pods,
}

/// A port of the host's 127.0.0.1 that is open to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostPort {
    /// Its number.
    pub port: u16,
    /// Its transport.
    pub protocol: Protocol,
    /// The programs that may connect to it.
    pub callers: Callers,
}

/// A port as the user names it: `8099` or `8099/udp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedPort {
    /// Its number.
    pub port: u16,
    /// Its transport.
    pub protocol: Protocol,
}

impl FromStr for NamedPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => return Err(format!("`{other}` is neither `tcp` nor `udp`")),
        };
        match port.parse() {
            // A number may also be read from `+80`.
            Ok(number) if number > 0 && !port.starts_with('+') => Ok(NamedPort {
                port: number,
                protocol,
            }),
            _ => Err("a port is a number from 1 to 65535".into()),
        }
    }
}

impl fmt::Display for NamedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Protocol::Tcp => write!(f, "{}", self.port),
            Protocol::Udp => write!(f, "{}/udp", self.port),
        }
    }
}

impl HostPort {
    /// Returns how the user names it.
    pub(crate) fn named(&self) -> NamedPort {
        NamedPort {
            port: self.port,
            protocol: self.protocol,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_and_nonsense_is_not() {
        for (text, port, protocol) in [
            ("8099", 8099, Protocol::Tcp),
            ("1/tcp", 1, Protocol::Tcp),
            ("65535/udp", 65535, Protocol::Udp),
        ] {
            let read: NamedPort = text.parse().unwrap();
            assert_eq!(read, NamedPort { port, protocol });
            assert_eq!(read.to_string().parse::<NamedPort>().unwrap(), read);
        }
        for bad in [
            "",
            "0",
            "65536",
            "-1",
            "+1",
            "80/",
            "80/sctp",
            "/tcp",
            "80/udp/tcp",
            " 80",
        ] {
            assert!(bad.parse::<NamedPort>().is_err(), "{bad}");
        }
    }
}
