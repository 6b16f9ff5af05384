//! Domains with this home's mark whose profile is gone.

use crate::doctor::context::DoctorContext;
use crate::doctor::finding::{Finding, or};
use crate::doctor::owned::profile_of_domain;
use crate::doctor::repair::Repair;
use crate::profile::ProfileName;

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (uri, link) in s.links() {
        let domains = match link.host.libvirt().list_owned() {
            Ok(domains) => domains,
            Err(e) => {
                found.push(Finding::of_error(&e, "virsh list --all"));
                continue;
            }
        };
        for domain in domains {
            let profile = profile_of_domain(s.env.store, &domain);
            if let Some(profile) = profile.filter(|profile| s.is_gone(profile)) {
                found.push(judge(uri, &domain.name, domain.state.name(), profile));
            }
        }
    }
    let fine = match s.links().next() {
        Some(_) => Finding::ok("each domain of this home has its profile"),
        None => Finding::skipped("libvirt does not answer"),
    };
    or(found, fine)
}

fn judge(uri: &str, domain: &str, state: &str, profile: ProfileName) -> Finding {
    let whose = format!("is of the profile `{profile}`, which is gone with its keys");
    Finding::warning(
        format!("the domain {domain} ({state}) {whose}"),
        format!("kubby delete{}", profile.flag()),
    )
    .with(Repair::RemoveDomain {
        uri: uri.to_owned(),
        profile,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_of_a_gone_profile_can_be_removed() {
        let dev = "dev".parse().unwrap();
        let found = judge("qemu:///system", "kubby-dev", "shut off", dev);
        assert!(found.fixable && found.reason.contains("kubby-dev (shut off)"));
    }
}
