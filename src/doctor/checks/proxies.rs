//! The proxies of the environment make sense, and those on the loopback answer.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::doctor::context::DoctorContext;
use crate::doctor::finding::Finding;
use crate::egress::{HostFacts, proxy};

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    vec![judge(&s.env.backend.host_facts(), answers)]
}

fn answers(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_ok()
}

/// Judges the variables. No finding holds a value: it may have a password.
fn judge(host: &HostFacts, answers: impl Fn(u16) -> bool) -> Finding {
    let proxy = match proxy::from_environment(|name| host.variable(name)) {
        Ok(proxy) => proxy,
        Err(e) => return Finding::of_error(&e, "correct the variable, or unset it"),
    };
    if let Some(port) = proxy.host_ports.iter().find(|port| !answers(**port)) {
        return Finding::failure(
            format!("the proxy of the environment is 127.0.0.1:{port}, where no program answers"),
            "start that proxy, or unset HTTP_PROXY and HTTPS_PROXY",
        );
    }
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"] {
        let lower = name.to_ascii_lowercase();
        if let (Some(a), Some(b)) = (host.variable(name), host.variable(&lower))
            && a != b
        {
            return Finding::warning(
                format!("{name} and {lower} differ: programs do not agree on which one counts"),
                format!("set both the same, or unset one: unset {lower}"),
            );
        }
    }
    let names = proxy.proxies.iter();
    let set: Vec<&str> = names.filter_map(|line| line.split('=').next()).collect();
    if set.is_empty() {
        return Finding::ok("the environment names no proxy");
    }
    Finding::ok(format!("{} is passed on to nodes", set.join(" and ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    #[test]
    fn proxies_are_judged_and_passwords_kept() {
        type Row = (&'static [(&'static str, &'static str)], State, &'static str);
        let table: [Row; 6] = [
            (&[], State::Ok, "no proxy"),
            (
                &[("HTTPS_PROXY", "http://p.example:3128")],
                State::Ok,
                "HTTPS_PROXY is passed",
            ),
            (
                &[("https_proxy", "http://me:s3cret@p:port")],
                State::Failure,
                "HTTPS_PROXY",
            ),
            (
                &[("HTTP_PROXY", "http://me:s3cret@127.0.0.1:1")],
                State::Failure,
                "127.0.0.1:1",
            ),
            (
                &[("HTTP_PROXY", "http://127.0.0.1:2")],
                State::Ok,
                "HTTP_PROXY is passed",
            ),
            (
                &[
                    ("HTTP_PROXY", "http://s3cret@a:3"),
                    ("http_proxy", "http://b:3"),
                ],
                State::Warning,
                "differ",
            ),
        ];
        for (variables, state, words) in table {
            let host = HostFacts {
                environment: variables
                    .iter()
                    .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                    .collect(),
                ..HostFacts::default()
            };
            let found = judge(&host, |port| port == 2);
            assert_eq!(found.state, state, "{variables:?}");
            assert!(found.reason.contains(words), "{}", found.reason);
            assert!(!format!("{found:?}").contains("s3cret"), "{found:?}");
        }
    }
}
