//! This home's pool, when nothing is in it and nothing will be put into it.

use crate::cluster::saved::garbage;
use crate::doctor::checks::pool;
use crate::doctor::context::DoctorContext;
use crate::doctor::finding::{Finding, or};
use crate::doctor::repair::Repair;

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    let clusters = !s.profiles.is_empty() || !garbage::templates(s.env.store).is_empty();
    let name = s.env.store.pool_name();
    let pools = s.links().filter(|(uri, link)| pool::works(s, uri, link));
    let found = pools.map(|(uri, link)| {
        if s.shared_busy {
            return Finding::skipped("another kubby process is using it");
        }
        let volumes = link.host.libvirt().list_volumes(&name);
        judge(uri, &name, clusters, volumes.ok().map(|all| all.len()))
    });
    let none = match s.links().next() {
        Some(_) => Finding::ok("there is none"),
        None => Finding::skipped("libvirt does not answer"),
    };
    or(found, none)
}

fn judge(uri: &str, name: &str, clusters: bool, volumes: Option<usize>) -> Finding {
    if clusters || volumes != Some(0) {
        return Finding::ok(format!("the storage pool {name} is in use"));
    }
    let uri = uri.to_owned();
    Finding::warning(
        format!("the storage pool {name} is empty, and there is no cluster and no template"),
        "kubby doctor --fix removes it",
    )
    .with(Repair::RemovePool { uri })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_pool_that_nothing_needs_can_be_removed() {
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
