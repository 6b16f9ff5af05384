//! HTTP proxies of the host's environment, for containerd.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::address::Address;
use crate::error::{Error, Result};
use crate::network::{HOST_IN_NODE, Network};

/// Proxies as the node uses them.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// The proxies as lines `NAME=value` for a program's environment; they may hold passwords.
    pub proxies: Vec<String>,
    /// Names and addresses that the host reaches without a proxy.
    direct: Vec<String>,
    /// Ports of the host's loopback that proxies listen on.
    pub host_ports: BTreeSet<u16>,
}

/// Without the values: they may hold passwords.
impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy")
            .field("variables", &self.proxies.len())
            .field("host_ports", &self.host_ports)
            .finish()
    }
}

impl Proxy {
    /// Returns lines `NAME=value` for a program's environment in a node, which may hold passwords.
    /// The addresses of the cluster are reached without a proxy.
    pub(crate) fn environment(&self, network: &Network) -> Vec<String> {
        if self.proxies.is_empty() {
            return Vec::new();
        }
        let own = [
            "localhost".to_owned(),
            Ipv4Addr::LOCALHOST.to_string(),
            network.nodes.to_string(),
            HOST_IN_NODE.to_string(),
            network.services.to_string(),
            network.pods.to_string(),
            ".svc".to_owned(),
            format!(".{}", network.domain),
        ];
        let mut direct = self.direct.clone();
        direct.extend(own.into_iter().filter(|o| !self.direct.contains(o)));
        let mut lines = self.proxies.clone();
        lines.push(format!("NO_PROXY={}", direct.join(",")));
        lines
    }
}

/// Reads the usual variables, in upper case before lower case as Go's programs do.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) with the variable's name, and never its value.
pub(crate) fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Proxy> {
    let value = |name: &str| {
        let names = [name.to_owned(), name.to_ascii_lowercase()];
        let mut values = names.iter().filter_map(|name| variable(name));
        values.find(|value| !value.trim().is_empty())
    };
    let mut proxy = Proxy::default();
    for name in ["HTTP_PROXY", "HTTPS_PROXY"] {
        let Some(text) = value(name) else { continue };
        let address = Address::parse(text.trim(), "http").map_err(|why| bad(name, &why))?;
        if !["http", "https", "socks5", "socks5h"].contains(&address.scheme.as_str()) {
            return Err(bad(name, "its scheme is none of http, https, socks5"));
        }
        let (address, port) = address.in_node();
        proxy.host_ports.extend(port);
        proxy.proxies.push(format!("{name}={address}"));
    }
    if proxy.proxies.is_empty() {
        return Ok(proxy);
    }
    let users = value("NO_PROXY").unwrap_or_default();
    for entry in users.split([',', ' ']).map(str::trim) {
        if entry.is_empty() || proxy.direct.iter().any(|d| d == entry) {
            continue;
        }
        if !entry
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-._:/*[]".contains(c))
        {
            return Err(bad("NO_PROXY", "it has characters that no host name has"));
        }
        proxy.direct.push(entry.to_owned());
    }
    Ok(proxy)
}

fn bad(name: &str, why: &str) -> Error {
    Error::usage(format!(
        "the environment variable {name} is not usable in the node: {why}"
    ))
    .with_hint(format!(
        "write it like {name}={}, or unset it for this command: env -u {name} -u {} kubby start",
        if name == "NO_PROXY" {
            "example.org,10.0.0.0/8"
        } else {
            "http://proxy.example:3128"
        },
        name.to_ascii_lowercase()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn read(variables: &[(&str, &str)]) -> Result<Proxy> {
        from_environment(|name| {
            let found = variables.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn lines(proxy: &Proxy) -> Vec<String> {
        let network = Network::default();
        proxy.environment(&network)
    }

    const OWN: &str =
        "localhost,127.0.0.1,10.245.0.0/24,10.0.2.2,10.96.0.0/12,10.244.0.0/16,.svc,.cluster.local";

    #[test]
    fn without_proxies_nothing_is_set() {
        assert_eq!(read(&[]).unwrap(), Proxy::default());
        assert_eq!(read(&[("NO_PROXY", "a")]).unwrap(), Proxy::default());
        assert_eq!(read(&[("HTTP_PROXY", " ")]).unwrap(), Proxy::default());
    }

    #[test]
    fn variables_are_read_in_both_cases_and_extended() {
        let proxy = read(&[
            ("http_proxy", "http://lower:1"),
            ("HTTPS_PROXY", "upper.example:2"),
            ("https_proxy", "http://lower:2"),
            ("no_proxy", "corp.example, .lan,localhost"),
        ])
        .unwrap();
        assert_eq!(
            lines(&proxy),
            [
                "HTTP_PROXY=http://lower:1",
                "HTTPS_PROXY=http://upper.example:2",
                &format!("NO_PROXY=corp.example,.lan,{OWN}"),
            ]
        );
        assert!(proxy.host_ports.is_empty());
    }

    #[test]
    fn a_proxy_on_the_loopback_is_reached_through_the_network() {
        let proxy = read(&[("HTTP_PROXY", "http://me:secret@127.0.0.1:3128")]).unwrap();
        assert_eq!(
            lines(&proxy)[0],
            "HTTP_PROXY=http://me:secret@10.0.2.2:3128"
        );
        assert_eq!(proxy.host_ports.iter().copied().collect::<Vec<_>>(), [3128]);
        assert!(!format!("{proxy:?}").contains("secret"));
    }

    #[test]
    fn an_error_names_the_variable_and_keeps_the_password() {
        for (name, value) in [
            ("HTTP_PROXY", "http://me:secret@a:port"),
            ("HTTPS_PROXY", "ftp://me:secret@a"),
            ("HTTP_PROXY", "http://me:secret\n@a"),
        ] {
            let e = read(&[(name, value)]).unwrap_err();
            assert_eq!(e.kind(), Kind::Usage);
            assert!(e.message().contains(name), "{e}");
            assert!(!format!("{e:?}").contains("secret"), "{e:?}");
        }
        let e = read(&[("HTTP_PROXY", "http://a"), ("NO_PROXY", "$(x)")]).unwrap_err();
        assert!(e.message().contains("NO_PROXY"), "{e}");
    }
}
