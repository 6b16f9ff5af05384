//! Contexts of this home in a kubeconfig whose profile is gone.

use std::path::Path;

use crate::doctor::context::DoctorContext;
use crate::doctor::finding::{Finding, or};
use crate::doctor::owned::profile_of_context;
use crate::doctor::repair::Repair;
use crate::kubeconfig;
use crate::profile::ProfileName;

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in s.kubeconfigs() {
        let text = kubeconfig::load(file).ok().flatten().unwrap_or_default();
        // A file that cannot be edited is reported by the check of kubeconfigs.
        for (context, owner) in kubeconfig::owned(&text).unwrap_or_default() {
            let profile = profile_of_context(s.env.store, &owner);
            let gone = profile.filter(|profile| s.is_gone(profile));
            found.extend(gone.map(|profile| judge(file, context, profile)));
        }
    }
    or(
        found,
        Finding::ok("each context of this home has its profile"),
    )
}

fn judge(file: &Path, context: String, profile: ProfileName) -> Finding {
    let path = file.display();
    Finding::warning(
        format!("the context `{context}` in {path} is of the profile `{profile}`, which is gone"),
        format!("kubby delete{}", profile.flag()),
    )
    .with(Repair::RemoveContext {
        file: file.to_owned(),
        context,
        profile,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_of_a_gone_profile_can_be_removed() {
        let found = judge(Path::new("/k"), "kubby-dev".into(), "dev".parse().unwrap());
        assert!(found.fixable && found.reason.contains("`kubby-dev` in /k"));
    }
}
