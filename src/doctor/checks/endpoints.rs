//! The addresses of clusters with several control planes: the program runs that leads to them.

use super::ports::is_off;
use crate::doctor::context::DoctorContext;
use crate::doctor::finding::{Finding, or};
use crate::doctor::repair::Repair;
use crate::endpoint::Endpoint;
use crate::name::ProfileName;

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (seen, profile) in s
        .settled()
        .filter(|(_, profile)| profile.endpoint.is_some())
    {
        let dir = s.env.store.profile_dir(&seen.name);
        let runs = Endpoint::of(&dir).runs().is_some();
        let off = profile.nodes.iter().all(|node| is_off(s, profile, node));
        found.extend(judge(&seen.name, runs, off));
    }
    or(
        found,
        Finding::ok("the programs run that lead to control planes"),
    )
}

fn judge(name: &ProfileName, runs: bool, off: bool) -> Option<Finding> {
    (!runs && !off).then(|| {
        Finding::failure(
            format!("HAProxy, which leads to the control planes of `{name}`, does not run"),
            format!("kubby start{}", name.flag()),
        )
        .with(Repair::StartEndpoint {
            profile: name.clone(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_runs_needs_it() {
        let name: ProfileName = "dev".parse().unwrap();
        assert!(judge(&name, true, false).is_none());
        assert!(judge(&name, false, true).is_none());
        let found = judge(&name, false, false).unwrap();
        assert!(found.repair.is_some() && found.reason.contains("`dev`"));
    }
}
