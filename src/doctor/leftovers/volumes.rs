//! Volumes in this home's pool that no cluster and no saved state needs.

use super::REMEDY;
use crate::doctor::checks::pool;
use crate::doctor::context::{DoctorContext, Link};
use crate::doctor::finding::{Finding, explain, or};
use crate::doctor::owned::unneeded_volumes;
use crate::doctor::repair::Repair;

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    let pools = s.links().filter(|(uri, link)| pool::works(s, uri, link));
    let found = pools.map(|(uri, link)| of(s, uri, link));
    or(found, Finding::skipped("there is no pool that works"))
}

fn of(s: &DoctorContext<'_>, uri: &str, link: &Link<'_>) -> Finding {
    if s.shared_busy {
        return Finding::skipped("another kubby process is using the pool");
    }
    match unneeded_volumes(&link.host) {
        Ok(left) => judge(uri, &left),
        Err(e) => Finding::skipped(explain(&e)),
    }
}

fn judge(uri: &str, left: &[String]) -> Finding {
    if left.is_empty() {
        return Finding::ok("all volumes are needed");
    }
    let uri = uri.to_owned();
    let reason = format!("nothing needs these volumes: {}", left.join(", "));
    Finding::warning(reason, REMEDY).with(Repair::RemoveVolumes { uri })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_that_nothing_needs_can_be_removed() {
        assert!(judge("u", &["base-1.qcow2".into()]).fixable);
        assert!(!judge("u", &[]).fixable);
    }
}
