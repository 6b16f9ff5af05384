//! The storage pool of this home is there, is this home's, and is started.

use std::path::{Path, PathBuf};

use crate::cluster::machine::resources;
use crate::doctor::finding::Finding;
use crate::doctor::repair::Repair;
use crate::doctor::surroundings::{Link, Surroundings};
use crate::hypervisor::{Hypervisor, Pool};

const NAME: &str = "pool";

struct Facts<'a> {
    uri: &'a str,
    name: String,
    /// Where the pool's folder should be.
    target: PathBuf,
    found: Option<Pool>,
    /// Nothing where this process cannot see it.
    folder: Option<bool>,
    /// Whether there are clusters, whose disks are in it.
    needed: bool,
}

pub(in crate::doctor) fn look(s: &Surroundings<'_>) -> Vec<Finding> {
    let mut found: Vec<Finding> = s.links().map(|(uri, link)| of(s, uri, link)).collect();
    if found.is_empty() {
        found.push(Finding::skipped(NAME, "libvirt does not answer"));
    }
    found
}

/// Whether the pool on a connection can be worked with, so that other checks may ask it.
pub(in crate::doctor) fn works(s: &Surroundings<'_>, uri: &str, link: &Link) -> bool {
    let pool = link.libvirt.find_pool(&s.store.pool_name());
    let folder = !resources::reaches_files(uri) || s.store.pool_target(uri).is_dir();
    folder && pool.is_ok_and(|pool| pool.is_some_and(|pool| pool.active))
}

fn of(s: &Surroundings<'_>, uri: &str, link: &Link) -> Finding {
    let name = s.store.pool_name();
    let target = s.store.pool_target(uri);
    match link.libvirt.find_pool(&name) {
        Err(e) => Finding::of_error(NAME, &e, "virsh pool-list --all"),
        Ok(_) if s.shared_busy => Finding::skipped(NAME, "another kubby works on it"),
        Ok(found) => judge(&Facts {
            uri,
            found,
            name,
            folder: resources::reaches_files(uri).then(|| target.is_dir()),
            target,
            needed: s.settled().any(|(_, profile)| profile.connect == uri),
        }),
    }
}

fn judge(facts: &Facts<'_>) -> Finding {
    let (name, target) = (&facts.name, facts.target.display());
    let mend = Repair::EnsurePool {
        uri: facts.uri.to_owned(),
    };
    let Some(pool) = &facts.found else {
        if !facts.needed {
            return Finding::ok(NAME, "there is none yet; kubby start makes it");
        }
        return Finding::failure(
            NAME,
            format!("libvirt has no storage pool {name}, which holds the clusters' disks"),
            "kubby doctor --fix defines it anew over its folder",
        )
        .with(mend);
    };
    if !same(&pool.target, &facts.target) {
        return Finding::failure(
            NAME,
            format!(
                "the storage pool {name} is in {}, not in {target}: it is not this home's",
                pool.target.display()
            ),
            format!(
                "if nothing uses it, remove it: virsh pool-destroy {name}; virsh pool-undefine {name}"
            ),
        );
    }
    if facts.folder == Some(false) {
        return Finding::failure(
            NAME,
            format!("the folder of the storage pool {name} is missing: {target}"),
            "mount the disk that it is on, or let kubby doctor --fix make it anew, empty",
        )
        .with(mend);
    }
    if !pool.active {
        return Finding::failure(
            NAME,
            format!("the storage pool {name} is not started"),
            format!("virsh pool-start {name}"),
        )
        .with(mend);
    }
    Finding::ok(
        NAME,
        format!("the storage pool {name} is started, in {target}"),
    )
}

fn same(a: &Path, b: &Path) -> bool {
    a.components().eq(b.components())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    #[test]
    fn pools_are_judged() {
        let pool = |active, target: &str| {
            Some(Pool {
                active,
                target: target.into(),
            })
        };
        let table = [
            (None, Some(false), false, State::Ok, false, "none yet"),
            (
                None,
                Some(true),
                true,
                State::Failure,
                true,
                "no storage pool",
            ),
            (
                pool(true, "/other"),
                Some(true),
                true,
                State::Failure,
                false,
                "/other",
            ),
            (
                pool(true, "/p"),
                Some(false),
                true,
                State::Failure,
                true,
                "missing",
            ),
            (
                pool(false, "/p/"),
                Some(true),
                false,
                State::Failure,
                true,
                "not started",
            ),
            (
                pool(true, "/p/"),
                Some(true),
                true,
                State::Ok,
                false,
                "started",
            ),
            (pool(true, "/p"), None, true, State::Ok, false, "started"),
        ];
        for (found, folder, needed, state, fixable, words) in table {
            let finding = judge(&Facts {
                uri: "qemu:///system",
                name: "kubby".into(),
                target: "/p".into(),
                found: found.clone(),
                folder,
                needed,
            });
            assert_eq!(finding.state, state, "{found:?}");
            assert_eq!(finding.fixable, fixable, "{found:?}");
            assert!(finding.reason.contains(words), "{}", finding.reason);
        }
    }
}
