//! The ports of the clusters: each has one owner, and those of clusters that are off are free.

use crate::cluster::machine::preflight;
use crate::doctor::finding::Finding;
use crate::doctor::surroundings::Surroundings;
use crate::hypervisor::{Hypervisor, Protocol, ports};
use crate::profile::ProfileName;

const NAME: &str = "ports";

/// A cluster's use of a port.
struct Use<'a> {
    profile: &'a ProfileName,
    flag: &'static str,
    port: u16,
    /// Its machine is off, so that nobody may listen on it; not so where that is not known.
    off: bool,
}

pub(in crate::doctor) fn look(s: &Surroundings<'_>) -> Vec<Finding> {
    let mut uses = Vec::new();
    for (seen, profile) in s.settled() {
        let link = s.link(&profile.connect);
        let off = link.is_some_and(|link| {
            let found = link.libvirt.find(&seen.name.resource_name());
            link.host.is_local() && found.is_ok_and(|d| !d.is_some_and(|d| d.state.is_active()))
        });
        for (flag, port) in [
            ("--api-port", profile.ports.api),
            ("--ssh-port", profile.ports.ssh),
        ] {
            uses.push(Use {
                profile: &seen.name,
                flag,
                port,
                off,
            });
        }
    }
    let mut found = judge(&uses, |port| !ports::can_be_had(Protocol::Tcp, port));
    if let Err(e) = preflight::free_port([]) {
        found.push(Finding::of_error(NAME, &e, "see what uses them: ss -ltn"));
    }
    if found.is_empty() {
        found.push(Finding::ok(NAME, "the clusters' ports are theirs alone"));
    }
    found
}

fn judge(uses: &[Use<'_>], taken: impl Fn(u16) -> bool) -> Vec<Finding> {
    let mut found = Vec::new();
    for (i, one) in uses.iter().enumerate() {
        let (name, flag, port) = (one.profile, one.flag, one.port);
        let remedy = format!(
            "kubby start{} {flag} N, with a free port for N",
            name.flag()
        );
        let earlier = uses[..i].iter().find(|other| other.port == port);
        if let Some(other) = earlier {
            found.push(Finding::failure(
                NAME,
                format!(
                    "the clusters `{}` and `{name}` have the same port {port}: only one of them \
                     can run",
                    other.profile
                ),
                remedy,
            ));
        } else if one.off && taken(port) {
            found.push(Finding::failure(
                NAME,
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
