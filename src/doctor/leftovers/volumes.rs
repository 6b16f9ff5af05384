//! Volumes in this home's pool that no cluster and no saved state needs.

use crate::cluster::saved::garbage;
use crate::doctor::checks::pool;
use crate::doctor::finding::{Finding, explain};
use crate::doctor::repair::Repair;
use crate::doctor::surroundings::{Link, Surroundings};
use crate::error::{Error, Kind, Result};
use crate::hypervisor::Hypervisor;
use crate::profile::ProfileName;
use crate::store::Store;

const NAME: &str = "leftover-volumes";

pub(in crate::doctor) fn look(s: &Surroundings<'_>) -> Vec<Finding> {
    let pools = s.links().filter(|(uri, link)| pool::works(s, uri, link));
    let mut found: Vec<Finding> = pools.map(|(uri, link)| of(s, uri, link)).collect();
    if found.is_empty() {
        found.push(Finding::skipped(NAME, "there is no pool to look into"));
    }
    found
}

fn of(s: &Surroundings<'_>, uri: &str, link: &Link) -> Finding {
    if s.shared_busy {
        return Finding::skipped(NAME, "another kubby works on the pool");
    }
    match unneeded(&link.libvirt, s.store) {
        Ok(left) => judge(uri, left),
        Err(e) => Finding::skipped(NAME, explain(&e)),
    }
}

/// The volumes that may go, in the order in which they can.
///
/// # Errors
/// [`Kind::State`] where that cannot be told, [`Kind::Hypervisor`] when libvirt cannot be asked.
pub(in crate::doctor) fn unneeded(
    hypervisor: &dyn Hypervisor,
    store: &Store,
) -> Result<Vec<String>> {
    let pool = store.pool_name();
    if let Some(home) = garbage::another_home(hypervisor, store)? {
        return Err(Error::new(
            Kind::State,
            format!(
                "the home {} uses the storage pool {pool}, too, and knows what it needs",
                home.display()
            ),
        ));
    }
    let mut left = garbage::unneeded(hypervisor, store, &pool, None)?.ok_or_else(|| {
        Error::new(
            Kind::State,
            "a profile or saved state is damaged, so that what it needs is not known",
        )
    })?;
    left.extend(of_nobody(hypervisor, store)?);
    Ok(left)
}

/// Seeds and console logs of profiles that are gone: those go with their cluster and with nothing
/// else.
fn of_nobody(hypervisor: &dyn Hypervisor, store: &Store) -> Result<Vec<String>> {
    let profiles = store.profile_names()?;
    let volumes = hypervisor.list_volumes(&store.pool_name())?;
    let names = volumes.into_iter().map(|v| v.name);
    Ok(names
        .filter(|name| {
            let profile = profile_of(name);
            profile.is_some_and(|p| !profiles.contains(&p) && !store.is_profile_locked(&p))
        })
        .collect())
}

/// The profile of `kubby-dev.seed.tar`.
fn profile_of(volume: &str) -> Option<ProfileName> {
    let domain = volume
        .strip_suffix(".seed.tar")
        .or(volume.strip_suffix(".console.log"))?;
    ProfileName::of_resource(domain)
}

fn judge(uri: &str, left: Vec<String>) -> Finding {
    if left.is_empty() {
        return Finding::ok(NAME, "all volumes are needed");
    }
    Finding::warning(
        NAME,
        format!("nothing needs these volumes: {}", left.join(", ")),
        "kubby doctor --fix removes them",
    )
    .with(Repair::RemoveVolumes {
        uri: uri.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clusters_own_volumes_are_known_by_name() {
        let name = |volume: &str| profile_of(volume).map(|p| p.to_string());
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
        assert!(judge("u", vec!["base-1.qcow2".into()]).fixable);
        assert!(!judge("u", vec![]).fixable);
    }
}
