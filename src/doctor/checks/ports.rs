//! The ports of the clusters: each belongs to one cluster, and is free while its cluster is off.

use std::collections::BTreeSet;

use crate::doctor::context::DoctorContext;
use crate::doctor::finding::{Finding, or};
use crate::hypervisor::{Protocol, ports};
use crate::profile::ProfileName;

/// A cluster's use of a port.
struct Use<'a> {
    profile: &'a ProfileName,
    flag: &'static str,
    port: u16,
    /// Whether its machine is known to be off, so that no program may listen on the port.
    off: bool,
}

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    let mut uses = Vec::new();
    for (seen, profile) in s.settled() {
        let link = s.link(&profile.connect);
        let off = link.is_some_and(|link| {
            let found = link.host.libvirt().find(&seen.name.resource_name());
            link.info.is_local() && found.is_ok_and(|d| !d.is_some_and(|d| d.state.is_active()))
        });
        let (api, ssh) = (profile.first().ports.api, profile.first().ports.ssh);
        let ports = [("--api-port", api), ("--ssh-port", ssh)];
        uses.extend(ports.map(|(flag, port)| Use {
            profile: &seen.name,
            flag,
            port,
            off,
        }));
    }
    let mut found = judge(&uses, |port| !ports::can_be_had(Protocol::Tcp, port));
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

fn judge(uses: &[Use<'_>], taken: impl Fn(u16) -> bool) -> Vec<Finding> {
    let mut found = Vec::new();
    for (i, one) in uses.iter().enumerate() {
        let (name, port) = (one.profile, one.port);
        let start = format!("kubby start{} {}", name.flag(), one.flag);
        let remedy = format!("{start} N, with a free port for N");
        if let Some(other) = uses[..i].iter().find(|other| other.port == port) {
            let other = other.profile;
            let reason = format!("the clusters `{other}` and `{name}` have the same port {port}");
            found.push(Finding::failure(
                format!("{reason}: only one of them can run"),
                remedy,
            ));
        } else if one.off && taken(port) {
            found.push(Finding::failure(
                format!("the port {port} of `{name}`, which is off, is taken by another program"),
                format!("see what uses it: ss -ltnp 'sport = :{port}'; or {remedy}"),
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
            flag: "--api-port",
            port,
            off,
        };
        let reasons = |uses: &[Use<'_>]| -> Vec<String> {
            let found = judge(uses, |port| port == 7);
            found.into_iter().map(|f| f.reason).collect()
        };
        assert_eq!(reasons(&[of(&a, 5, true), of(&b, 6, true)]).len(), 0);
        // A cluster that runs listens on its own port.
        assert_eq!(reasons(&[of(&a, 7, false)]).len(), 0);
        let taken = reasons(&[of(&a, 7, true)]);
        assert!(taken[0].contains("7 of `a`"), "{taken:?}");
        let twice = reasons(&[of(&a, 5, true), of(&b, 5, false)]);
        assert!(twice[0].contains("`a` and `b`"), "{twice:?}");
    }
}
