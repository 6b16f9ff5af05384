//! Name servers and search domains for the node.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use crate::network::NAME_SERVER_ALIASES;

/// The largest number of search domains: each costs a query, and old resolvers took six.
const MOST_DOMAINS: usize = 6;

/// The name servers and search domains of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Dns {
    /// Name servers; none for the host's own, which QEMU passes queries on to.
    pub servers: Vec<SocketAddrV4>,
    /// Domains to try for short names.
    pub search: Vec<String>,
}

/// A name server that stands at an address of the node's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alias {
    /// The address that the node asks, on port 53.
    pub at: Ipv4Addr,
    /// The server that it leads to.
    pub to: SocketAddrV4,
}

impl Dns {
    /// Returns the servers that need an address in the node's network: those on the host's
    /// loopback, and those with another port than 53, which resolv.conf cannot express.
    pub(crate) fn aliases(&self) -> Vec<Alias> {
        let special = |s: &&SocketAddrV4| s.ip().is_loopback() || s.port() != 53;
        let servers = self.servers.iter().filter(special);
        (0..)
            .zip(servers)
            .map(|(n, server)| Alias {
                at: Ipv4Addr::from_bits(NAME_SERVER_ALIASES.to_bits() + n),
                to: *server,
            })
            .collect()
    }

    /// Returns the addresses for the node's configuration, in order.
    pub(crate) fn addresses(&self) -> Vec<Ipv4Addr> {
        let aliases = self.aliases();
        let address = |server: &SocketAddrV4| {
            let alias = aliases.iter().find(|a| a.to == *server);
            alias.map_or(*server.ip(), |a| a.at)
        };
        self.servers.iter().map(address).collect()
    }
}

/// Reads `ADDRESS` or `ADDRESS:PORT` of a name server.
///
/// # Errors
/// The reason for which the node cannot use it.
pub(crate) fn parse_server(text: &str) -> Result<SocketAddrV4, String> {
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return check(SocketAddrV4::new(address, 53));
    }
    if let Ok(server) = text.parse::<SocketAddrV4>() {
        return check(server);
    }
    if text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Err(format!("`{text}`: the node's network has IPv4 only"));
    }
    Err(format!(
        "`{text}` is not a name server; write its address, like 10.1.1.1 or 127.0.0.1:5353"
    ))
}

fn check(server: SocketAddrV4) -> Result<SocketAddrV4, String> {
    if server.port() == 0 || server.ip().is_unspecified() || server.ip().is_multicast() {
        return Err(format!("`{server}` is not the address of a name server"));
    }
    Ok(server)
}

/// Returns the search domains of the host's resolv.conf, and a warning where QEMU finds no name
/// server in it that it can pass queries on to.
pub(crate) fn of_host(resolv_conf: &str) -> (Vec<String>, Option<String>) {
    let (mut search, mut v4, mut v6) = (Vec::new(), 0, 0);
    for line in resolv_conf.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            // The last one counts, as resolv.conf(5) has it.
            Some("search" | "domain") => search = words.map(str::to_owned).collect(),
            Some("nameserver") => match words.next().map(str::parse::<Ipv4Addr>) {
                Some(Ok(_)) => v4 += 1,
                Some(Err(_)) => v6 += 1,
                None => {}
            },
            _ => {}
        }
    }
    let good = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    search.retain(|d| !d.trim_matches('.').is_empty() && d.chars().all(good));
    search.truncate(MOST_DOMAINS);
    let warning = (v4 == 0 && v6 > 0).then(|| {
        "this host has name servers with IPv6 addresses only, which the node cannot ask: \
         names will not resolve in it unless you give one with --dns ADDRESS"
            .to_owned()
    });
    (search, warning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_addresses_with_or_without_a_port() {
        for (text, server) in [
            ("10.1.1.1", "10.1.1.1:53"),
            ("127.0.0.1:5353", "127.0.0.1:5353"),
        ] {
            assert_eq!(parse_server(text).unwrap().to_string(), server);
        }
        for text in [
            "",
            "a",
            "10.1.1",
            "10.1.1.1:0",
            "0.0.0.0",
            "224.0.0.1",
            "::1",
            "[fe80::1]",
            "10.1.1.1:x",
            "10.1.1.1 ",
        ] {
            assert!(parse_server(text).is_err(), "{text}");
        }
    }

    #[test]
    fn odd_servers_get_an_address_of_the_nodes_network() {
        let servers = ["10.1.1.1", "127.0.0.1", "10.1.1.2:5353"];
        let dns = Dns {
            servers: servers.iter().map(|s| parse_server(s).unwrap()).collect(),
            search: vec![],
        };
        let addresses: Vec<String> = dns.addresses().iter().map(Ipv4Addr::to_string).collect();
        assert_eq!(addresses, ["10.1.1.1", "10.0.2.101", "10.0.2.102"]);
        assert_eq!(dns.aliases()[1].to.to_string(), "10.1.1.2:5353");
    }

    #[test]
    fn the_hosts_file_is_understood() {
        let search = |text| of_host(text).0;
        assert_eq!(
            search("search a.example b.example\nnameserver 10.0.0.1\n"),
            ["a.example", "b.example"]
        );
        assert_eq!(search("domain a.example\n"), ["a.example"]);
        assert_eq!(search("search .\nnameserver 127.0.0.53"), [""; 0]);
        assert_eq!(search("search $(x) ok.example"), ["ok.example"]);
        assert_eq!(of_host("nameserver 10.0.0.1\nnameserver ::1").1, None);
        assert_eq!(of_host("").1, None);
        assert!(of_host("nameserver fd00::1\n").1.unwrap().contains("--dns"));
    }
}
