//! The storage pool of this home exists, is this home's, and is started.

use std::path::PathBuf;

use crate::cluster::machine::host::reaches_files;
use crate::cluster::machine::pool_owner::OtherPool;
use crate::doctor::context::{DoctorContext, Link};
use crate::doctor::finding::Finding;
use crate::doctor::repair::Repair;
use crate::hypervisor::Pool;

struct Facts<'a> {
    uri: &'a str,
    name: String,
    /// The path that the pool's folder should have.
    target: PathBuf,
    found: Option<Pool>,
    /// Whether the folder exists; `None` where this process cannot see it.
    folder: Option<bool>,
    /// The reason why the pool is another's.
    foreign: Option<OtherPool>,
    /// Whether there are clusters, whose disks are in it.
    needed: bool,
}

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    s.judge_links(|uri, link| of(s, uri, link))
}

/// Returns whether the pool on a connection works, so that other checks may use it.
pub(in crate::doctor) fn works(s: &DoctorContext<'_>, uri: &str, link: &Link<'_>) -> bool {
    let pool = link.host.libvirt().find_pool(&s.env.store.pool_name());
    let folder = !reaches_files(uri) || s.env.store.pool_target(uri).is_dir();
    folder && pool.is_ok_and(|pool| pool.is_some_and(|pool| pool.active))
}

fn of(s: &DoctorContext<'_>, uri: &str, link: &Link<'_>) -> Finding {
    let name = s.env.store.pool_name();
    let target = s.env.store.pool_target(uri);
    match link.host.libvirt().find_pool(&name) {
        Err(e) => Finding::of_error(&e, "virsh pool-list --all"),
        Ok(_) if s.shared_busy => Finding::skipped("another kubby process is using it"),
        Ok(found) => judge(&Facts {
            uri,
            foreign: link.host.foreign_pool_owner().ok().flatten(),
            found,
            name,
            folder: reaches_files(uri).then(|| target.is_dir()),
            target,
            needed: s.settled().any(|(_, profile)| profile.connect == uri),
        }),
    }
}

fn judge(facts: &Facts<'_>) -> Finding {
    let (name, target) = (&facts.name, facts.target.display());
    let repair = Repair::EnsurePool {
        uri: facts.uri.to_owned(),
    };
    let Some(pool) = &facts.found else {
        if !facts.needed {
            return Finding::ok("there is none yet; kubby start makes it");
        }
        return Finding::failure(
            format!("libvirt has no storage pool {name}, which holds the clusters' disks"),
            "kubby doctor --fix defines it again over its folder",
        )
        .with(repair);
    };
    if let Some(why) = &facts.foreign {
        return Finding::failure(
            format!("the storage pool {name} is not this home's: {why}"),
            why.remedy(),
        );
    }
    if facts.folder == Some(false) {
        return Finding::failure(
            format!("the folder of the storage pool {name} is missing: {target}"),
            "mount the disk that it is on, or let kubby doctor --fix make a new, empty folder",
        )
        .with(repair);
    }
    if !pool.active {
        return Finding::failure(
            format!("the storage pool {name} is not started"),
            format!("virsh pool-start {name}"),
        )
        .with(repair);
    }
    Finding::ok(format!("the storage pool {name} is started, in {target}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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
                foreign: found
                    .clone()
                    .filter(|pool| pool.target == Path::new("/other"))
                    .map(|pool| OtherPool::Elsewhere {
                        found: pool.target,
                        expected: "/p".into(),
                    }),
                needed,
            });
            assert_eq!(finding.state, state, "{found:?}");
            assert_eq!(finding.fixable, fixable, "{found:?}");
            assert!(finding.reason.contains(words), "{}", finding.reason);
        }
    }
}
