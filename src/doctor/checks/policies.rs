//! NetworkPolicies that nothing of kubby's enforces.

use super::ports::is_off;
use crate::cluster::{Cluster, policies};
use crate::doctor::context::DoctorContext;
use crate::doctor::finding::{Finding, or};

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    let running = s
        .settled()
        .filter(|(_, profile)| policies::are_off(profile) && !is_off(s, profile, profile.first()));
    let found = running.filter_map(|(seen, profile)| {
        // A cluster that does not answer has other findings.
        let api = Cluster::open(s.env.store, &seen.name)
            .ok()?
            .api(s.env.backend)
            .ok()?;
        let (reason, remedy) = policies::unenforced(&api, profile).ok()??;
        Some(Finding::warning(reason, remedy))
    });
    or(
        found,
        Finding::ok("no cluster has any that are not enforced"),
    )
}
