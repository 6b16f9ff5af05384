//! The profiles of this home that marks and names belong to, and the volumes that nothing needs.

use crate::cluster::context;
use crate::cluster::machine::host::Host;
use crate::cluster::saved::garbage;
use crate::error::{Error, Result};
use crate::hypervisor::{self, Domain, Identity};
use crate::kubeconfig::Owner;
use crate::profile::ProfileName;
use crate::store::Store;

/// The endings of the volumes that are removed with their cluster and at no other time.
const CLUSTER_VOLUMES: [&str; 2] = [".seed.tar", ".console.log"];

/// Returns the profile of a domain that has this home's mark.
pub(super) fn profile_of_domain(store: &Store, domain: &Domain) -> Option<ProfileName> {
    let profile: ProfileName = domain.owner.as_ref()?.profile.parse().ok()?;
    let identity = Identity {
        uuid: None,
        profile: profile.to_string(),
        home: store.home().to_owned(),
    };
    let ours = hypervisor::foreign(domain, &identity).is_none();
    // No command looks for a domain that was renamed.
    (ours && domain.name == profile.resource_name()).then_some(profile)
}

/// Returns the profile of a kubeconfig's context that has this home's mark.
pub(super) fn profile_of_context(store: &Store, owner: &Owner) -> Option<ProfileName> {
    let profile: ProfileName = owner.profile.parse().ok()?;
    context::owner(store, &profile).is(owner).then_some(profile)
}

/// Returns the profile of a file that is named after its domain, such as `kubby-dev.seed.tar`.
pub(super) fn profile_of_file(file: &str, endings: [&str; 2]) -> Option<ProfileName> {
    let domain = endings.iter().find_map(|ending| file.strip_suffix(ending));
    ProfileName::of_resource(domain?)
}

/// Returns the volumes that nothing needs, in the order in which they can be removed.
///
/// # Errors
/// [`crate::error::Kind::State`] where that cannot be decided, [`crate::error::Kind::Hypervisor`] when
/// libvirt does not answer.
pub(super) fn unneeded_volumes(host: &Host<'_>) -> Result<Vec<String>> {
    if let Some(why) = host.foreign_pool_owner()? {
        let pool = host.pool();
        let message = format!("the storage pool {pool} is not this home's: {why}");
        return Err(Error::state(message));
    }
    let what = "a profile or saved state is damaged, so that what it needs is not known";
    let damaged = || Error::state(what);
    let mut left = garbage::unneeded(host, None)?.ok_or_else(damaged)?;
    let store = host.store();
    let profiles = store.profile_names()?;
    let is_gone = |p: &ProfileName| !profiles.contains(p) && !store.is_profile_locked(p);
    let volumes = host.volumes()?;
    let names = volumes.all().iter().map(|volume| volume.name.clone());
    left.extend(names.filter(|name| {
        profile_of_file(name, CLUSTER_VOLUMES).is_some_and(|profile| is_gone(&profile))
    }));
    Ok(left)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::hypervisor::{self, State};

    fn store() -> Store {
        Store::at(Path::new("/h"), Path::new("/c"))
    }

    #[test]
    fn only_this_homes_own_domains_have_a_profile() {
        let domain = |name: &str, owner: Option<(&str, &str)>| Domain {
            name: name.into(),
            uuid: uuid::Uuid::from_u128(1),
            state: State::ShutOff,
            reason: None,
            owner: owner.map(|(profile, home)| hypervisor::Owner {
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
            let profile = profile_of_domain(&store(), &domain);
            assert_eq!(profile.is_some(), ours, "{domain:?}");
        }
    }

    #[test]
    fn contexts_of_other_homes_are_theirs() {
        let profile = |profile: &str, home: &str| {
            let owner = Owner {
                profile: profile.into(),
                home: home.into(),
            };
            profile_of_context(&store(), &owner)
        };
        assert!(profile("dev", "/h").is_some() && profile("dev", "/h/").is_some());
        assert!(profile("dev", "/i").is_none());
        assert!(profile("no name", "/h").is_none());
    }

    #[test]
    fn a_clusters_own_volumes_are_known_by_name() {
        let name = |volume: &str| {
            let profile = profile_of_file(volume, CLUSTER_VOLUMES);
            profile.map(|p| p.to_string())
        };
        assert_eq!(name("kubby.seed.tar").as_deref(), Some("kubby"));
        assert_eq!(name("kubby-dev.console.log").as_deref(), Some("dev"));
        for other in [
            "base-1.qcow2",
            "kubby-dev.disk.qcow2",
            "my.seed.tar",
            "kubby-.seed.tar",
        ] {
            assert_eq!(name(other), None, "{other}");
        }
    }
}
