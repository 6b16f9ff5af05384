//! Contexts of this home in a kubeconfig whose profile is gone.

use std::path::Path;

use crate::doctor::finding::Finding;
use crate::doctor::repair::Repair;
use crate::doctor::surroundings::Surroundings;
use crate::kubeconfig::{self, Owner};
use crate::profile::ProfileName;

const NAME: &str = "leftover-contexts";

pub(in crate::doctor) fn look(s: &Surroundings<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in s.kubeconfigs() {
        let text = kubeconfig::load(file).ok().flatten().unwrap_or_default();
        // A file that cannot be edited is told by the check of kubeconfigs.
        let entries = kubeconfig::owned(&text).unwrap_or_default();
        let stale = entries.into_iter().filter_map(|(context, owner)| {
            let profile = profile_of(s.store.home(), &owner)?;
            let gone = !s.has_folder(&profile) && !s.is_busy(&profile);
            gone.then_some((context, profile))
        });
        found.extend(stale.map(|(context, profile)| judge(file, context, profile)));
    }
    if found.is_empty() {
        found.push(Finding::ok(
            NAME,
            "each context of this home has its profile",
        ));
    }
    found
}

fn profile_of(home: &Path, owner: &Owner) -> Option<ProfileName> {
    let here = owner.home.components().eq(home.components());
    here.then(|| owner.profile.parse().ok()).flatten()
}

fn judge(file: &Path, context: String, profile: ProfileName) -> Finding {
    Finding::warning(
        NAME,
        format!(
            "the context `{context}` in {} is of the profile `{profile}`, which is gone",
            file.display()
        ),
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
    fn contexts_of_other_homes_are_theirs() {
        let owner = |profile: &str, home: &str| Owner {
            profile: profile.into(),
            home: home.into(),
        };
        let here = Path::new("/h");
        assert!(profile_of(here, &owner("dev", "/h")).is_some());
        assert!(profile_of(here, &owner("dev", "/i")).is_none());
        assert!(profile_of(here, &owner("no name", "/h")).is_none());
        let found = judge(Path::new("/k"), "kubby-dev".into(), "dev".parse().unwrap());
        assert!(found.fixable && found.reason.contains("`kubby-dev` in /k"));
    }
}
