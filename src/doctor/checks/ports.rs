//! The ports of the clusters: each belongs to one cluster, and is free while its cluster is off.

use std::collections::BTreeSet;

use crate::cluster::machine::names::Names;
use crate::doctor::context::DoctorContext;
use crate::doctor::finding::{Finding, or};
use crate::endpoint::Endpoint;
use crate::hypervisor::{Protocol, ports};
use crate::profile::{NodeProfile, Profile, ProfileName};

/// A cluster's use of a port.
struct Use<'a> {
    profile: &'a ProfileName,
    /// The flag of `start` that chooses another port; none for ports of further nodes.
    flag: Option<&'static str>,
    port: (Protocol, u16),
    /// Whether its machine is known to be off, so that no program may listen on the port.
    off: bool,
}

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    let mut uses = Vec::new();
    for (seen, profile) in s.settled() {
        let dir = s.env.store.profile_dir(&seen.name);
        uses.extend(profile.endpoint.map(|port| Use {
            profile: &seen.name,
            flag: Some("--api-port"),
            port: (Protocol::Tcp, port),
            off: Endpoint::of(&dir).runs().is_none(),
        }));
        for node in &profile.nodes {
            let off = is_off(s, profile, node);
            let has_flags = node.name == profile.first().name;
            let api_flag = profile.endpoint.map_or("--api-port", |_| "");
            let used = [
                (api_flag, Protocol::Tcp, node.ports.api),
                ("--ssh-port", Protocol::Tcp, Some(node.ports.ssh)),
                ("", Protocol::Udp, node.ports.link),
            ];
            for (flag, protocol, port) in used {
                uses.extend(port.map(|port| Use {
                    profile: &seen.name,
                    flag: (has_flags && !flag.is_empty()).then_some(flag),
                    port: (protocol, port),
                    off,
                }));
            }
        }
    }
    let mut found = judge(&uses, |(protocol, port)| !ports::can_be_had(protocol, port));
    if let Err(e) = ports::find_free(1, &BTreeSet::new()) {
        found.push(Finding::of_error(
            &e,
            "see which programs use them: ss -ltn",
        ));
    }
    or(
        found,
        Finding::ok("no other program uses the clusters' ports"),
    )
}

/// Returns whether a node's machine is known to be off.
pub(super) fn is_off(s: &DoctorContext<'_>, profile: &Profile, node: &NodeProfile) -> bool {
    let domain = Names::of_node(&profile.name, node).domain;
    s.link(&profile.connect).is_some_and(|link| {
        let found = link.host.libvirt().find(&domain);
        link.info.is_local() && found.is_ok_and(|d| !d.is_some_and(|d| d.state.is_active()))
    })
}

fn judge(uses: &[Use<'_>], taken: impl Fn((Protocol, u16)) -> bool) -> Vec<Finding> {
    let mut found = Vec::new();
    for (i, one) in uses.iter().enumerate() {
        let (name, (protocol, port)) = (one.profile, one.port);
        let remedy = match one.flag {
            Some(flag) => format!(
                "kubby start{} {flag} N, with a free port for N",
                name.flag()
            ),
            None => format!("kubby start{} chooses another port", name.flag()),
        };
        let show = match protocol {
            Protocol::Tcp => "ss -ltnp",
            Protocol::Udp => "ss -lunp",
        };
        if let Some(other) = uses[..i].iter().find(|other| other.port == one.port) {
            let other = other.profile;
            let reason = format!("the clusters `{other}` and `{name}` have the same port {port}");
            found.push(Finding::failure(
                format!("{reason}: only one of them can run"),
                remedy,
            ));
        } else if one.off && taken(one.port) {
            found.push(Finding::failure(
                format!("the port {port} of `{name}`, which is off, is taken by another program"),
                format!("see what uses it: {show} 'sport = :{port}'; or {remedy}"),
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_taken_twice_or_by_others() {
        let (a, b): (ProfileName, ProfileName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let of = |profile, port, off| Use {
            profile,
            flag: Some("--api-port"),
            port: (Protocol::Tcp, port),
            off,
        };
        let reasons = |uses: &[Use<'_>]| -> Vec<String> {
            let found = judge(uses, |(_, port)| port == 7);
            found.into_iter().map(|f| f.reason).collect()
        };
        assert_eq!(reasons(&[of(&a, 5, true), of(&b, 6, true)]).len(), 0);
        // A cluster that runs listens on its own port.
        assert_eq!(reasons(&[of(&a, 7, false)]).len(), 0);
        let taken = reasons(&[of(&a, 7, true)]);
        assert!(taken[0].contains("7 of `a`"), "{taken:?}");
        let twice = reasons(&[of(&a, 5, true), of(&b, 5, false)]);
        assert!(twice[0].contains("`a` and `b`"), "{twice:?}");
        // The same number of another protocol is another port.
        let link = Use {
            port: (Protocol::Udp, 5),
            flag: None,
            ..of(&b, 5, false)
        };
        assert_eq!(reasons(&[of(&a, 5, true), link]).len(), 0);
    }
}
