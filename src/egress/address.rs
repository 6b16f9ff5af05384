//! Addresses of mirrors and proxies, and what they are called inside of the node.

use std::fmt;
use std::net::Ipv4Addr;

use crate::network::HOST_IN_NODE;

/// The parts of `scheme://user@host:port/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// Such as `http`, in lower case.
    pub scheme: String,
    /// Name and perhaps password, as they are.
    pub user: Option<String>,
    /// Name or address; an IPv6 address has its brackets.
    pub host: String,
    /// The port, where it is said.
    pub port: Option<u16>,
    /// From the first slash on; may be empty.
    pub path: String,
}

impl Address {
    /// Reads an address; `scheme` is what one without a scheme gets.
    ///
    /// # Errors
    /// The reason, without the text itself: it may hold a password.
    pub(crate) fn parse(text: &str, scheme: &str) -> Result<Self, String> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None => (scheme.to_owned(), text),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user.to_owned()), place),
            None => (None, authority),
        };
        let (host, port) = split_port(place)?;
        let graphic = |t: &str| {
            t.chars()
                .all(|c| c.is_ascii_graphic() && !"\"'\\`$".contains(c))
        };
        if !graphic(&scheme) || !graphic(path) || !user.as_deref().is_none_or(graphic) {
            return Err("it has characters that a URL cannot have".into());
        }
        Ok(Address {
            scheme,
            user,
            host,
            port,
            path: path.trim_end_matches('/').to_owned(),
        })
    }

    /// Returns whether it is the host's own loopback.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// Returns the address that leads from the node to the same place, and the port of the host's
    /// loopback that the node has to be let through to for that.
    pub(crate) fn in_node(&self) -> (Address, Option<u16>) {
        if !self.is_loopback() {
            return (self.clone(), None);
        }
        let port = self.port.unwrap_or(match self.scheme.as_str() {
            "https" => 443,
            "socks5" | "socks5h" => 1080,
            _ => 80,
        });
        let address = Address {
            host: HOST_IN_NODE.to_string(),
            ..self.clone()
        };
        (address, Some(port))
    }
}

/// With the password, if there is one: for files that only root reads.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme)?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        f.write_str(&self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.path)
    }
}

/// Splits `host:port`.
///
/// # Errors
/// The reason for which it is not `host:port`.
pub(crate) fn split_port(text: &str) -> Result<(String, Option<u16>), String> {
    let bracket = text.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match text[bracket..].rfind(':') {
        Some(at) => {
            let (host, port) = text.split_at(bracket + at);
            let port = port[1..].parse::<u16>().ok().filter(|p| *p != 0);
            (host, Some(port.ok_or("its port is not a number")?))
        }
        None => (text, None),
    };
    let name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let good = match inner {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(name) && !host.starts_with(['-', '.']),
    };
    if !good {
        return Err("it has no host name".into());
    }
    Ok((host.to_ascii_lowercase(), port))
}

/// Returns whether a host name or address is this host's own.
fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host == "[::1]"
        || host
            .parse::<Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, written) in [
            ("http://a.example:3128", "http://a.example:3128"),
            ("A.example:3128", "http://a.example:3128"),
            ("https://u:p%40@a.example/", "https://u:p%40@a.example"),
            ("http://[::1]:5000/x", "http://[::1]:5000/x"),
            ("socks5://10.1.2.3:1080", "socks5://10.1.2.3:1080"),
        ] {
            assert_eq!(Address::parse(text, "http").unwrap().to_string(), written);
        }
        for text in [
            "",
            "http://",
            "a b",
            "http://a:port",
            "http://a:0",
            "http://a:70000",
            "http://\"a",
            "http://a/$(x)",
            "http://[::g]",
            "-a",
            "http://u'x@a",
            "a\nb",
        ] {
            assert!(Address::parse(text, "http").is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_hosts_loopback_has_another_name_in_the_node() {
        for (text, node, port) in [
            ("http://127.0.0.1:3128", "http://10.0.2.2:3128", Some(3128)),
            ("https://localhost", "https://10.0.2.2", Some(443)),
            ("http://[::1]/v2", "http://10.0.2.2/v2", Some(80)),
            ("http://u:p@127.0.0.1:1", "http://u:p@10.0.2.2:1", Some(1)),
            ("http://127.example:1", "http://127.example:1", None),
        ] {
            let (address, open) = Address::parse(text, "http").unwrap().in_node();
            assert_eq!((address.to_string().as_str(), open), (node, port));
        }
    }
}
