//! Domains that carry this home's mark, and whose profile is gone.

use crate::doctor::finding::Finding;
use crate::doctor::repair::Repair;
use crate::doctor::surroundings::Surroundings;
use crate::hypervisor::{Domain, Hypervisor};
use crate::profile::ProfileName;
use crate::store::Store;

const NAME: &str = "leftover-domains";

pub(in crate::doctor) fn look(s: &Surroundings<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (uri, link) in s.links() {
        match link.libvirt.list_owned() {
            Ok(domains) => found.extend(
                domains
                    .iter()
                    .filter_map(|domain| Some((domain, profile_of(s.store, domain)?)))
                    .filter(|(_, profile)| !s.has_folder(profile) && !s.is_busy(profile))
                    .map(|(domain, profile)| judge(uri, domain, profile)),
            ),
            Err(e) => found.push(Finding::of_error(NAME, &e, "virsh list --all")),
        }
    }
    if found.is_empty() {
        found.push(match s.links().next() {
            Some(_) => Finding::ok(NAME, "each domain of this home has its profile"),
            None => Finding::skipped(NAME, "libvirt does not answer"),
        });
    }
    found
}

/// The profile of a domain of this home.
fn profile_of(store: &Store, domain: &Domain) -> Option<ProfileName> {
    let owner = domain.owner.as_ref()?;
    let here = owner.home.components().eq(store.home().components());
    let profile: ProfileName = owner.profile.parse().ok()?;
    // One that somebody renamed is not looked for by any command.
    (here && domain.name == profile.resource_name()).then_some(profile)
}

fn judge(uri: &str, domain: &Domain, profile: ProfileName) -> Finding {
    Finding::warning(
        NAME,
        format!(
            "the domain {} ({}) is of the profile `{profile}`, which is gone with its keys",
            domain.name,
            domain.state.name()
        ),
        format!("kubby delete{}", profile.flag()),
    )
    .with(Repair::RemoveDomain {
        uri: uri.to_owned(),
        domain: domain.name.clone(),
        profile,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::{Owner, State};
    use std::path::Path;
    use std::time::Duration;

    #[test]
    fn only_this_homes_own_domains_are_named() {
        let store = Store::at(Path::new("/h"), Path::new("/c"));
        let domain = |name: &str, owner: Option<(&str, &str)>| Domain {
            name: name.into(),
            uuid: uuid::Uuid::from_u128(1),
            state: State::ShutOff,
            reason: None,
            owner: owner.map(|(profile, home)| Owner {
                profile: profile.into(),
                home: home.into(),
                version: "0.1.0".into(),
            }),
            cpu_time: Duration::ZERO,
        };
        let table = [
            (domain("kubby-dev", Some(("dev", "/h/"))), true),
            (domain("kubby-dev", Some(("dev", "/other"))), false),
            (domain("renamed", Some(("dev", "/h"))), false),
            (domain("kubby-dev", Some(("../x", "/h"))), false),
            (domain("kubby-dev", None), false),
        ];
        for (domain, ours) in table {
            let profile = profile_of(&store, &domain);
            assert_eq!(profile.is_some(), ours, "{domain:?}");
            if let Some(profile) = profile {
                let found = judge("qemu:///system", &domain, profile);
                assert!(found.fixable && found.reason.contains("kubby-dev (shut off)"));
            }
        }
    }
}
