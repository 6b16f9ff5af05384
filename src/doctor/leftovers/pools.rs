//! This home's pool, when nothing is in it and nobody will put anything there.

use crate::cluster::saved::garbage;
use crate::doctor::checks::pool;
use crate::doctor::finding::Finding;
use crate::doctor::repair::Repair;
use crate::doctor::surroundings::{Link, Surroundings};
use crate::hypervisor::Hypervisor;

const NAME: &str = "leftover-pool";

pub(in crate::doctor) fn look(s: &Surroundings<'_>) -> Vec<Finding> {
    let clusters = !s.profiles.is_empty() || !garbage::templates(s.store).is_empty();
    let mut found = Vec::new();
    for (uri, link) in s.links().filter(|(uri, link)| pool::works(s, uri, link)) {
        if s.shared_busy {
            found.push(Finding::skipped(NAME, "another kubby works on it"));
        } else {
            let volumes = count(s, link);
            found.push(judge(uri, &s.store.pool_name(), clusters, volumes));
        }
    }
    if found.is_empty() {
        found.push(match s.links().next() {
            Some(_) => Finding::ok(NAME, "there is none"),
            None => Finding::skipped(NAME, "libvirt does not answer"),
        });
    }
    found
}

fn count(s: &Surroundings<'_>, link: &Link) -> Option<usize> {
    let volumes = link.libvirt.list_volumes(&s.store.pool_name());
    Some(volumes.ok()?.len())
}

fn judge(uri: &str, name: &str, clusters: bool, volumes: Option<usize>) -> Finding {
    if clusters || volumes != Some(0) {
        return Finding::ok(NAME, format!("the storage pool {name} is in use"));
    }
    Finding::warning(
        NAME,
        format!("the storage pool {name} is empty, and there is no cluster and no template"),
        format!("virsh pool-destroy {name}; virsh pool-undefine {name}"),
    )
    .with(Repair::RemovePool {
        uri: uri.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_pool_that_nobody_needs_goes() {
        for (clusters, volumes, fixable) in [
            (false, Some(0), true),
            (true, Some(0), false),
            (false, Some(1), false),
            (false, None, false),
        ] {
            assert_eq!(judge("u", "kubby", clusters, volumes).fixable, fixable);
        }
    }
}
