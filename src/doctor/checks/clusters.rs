//! Each cluster is complete: its profile can be read, its machine and its disk exist.

use super::pool;
use crate::cluster::operations::status::{HostState, status};
use crate::doctor::context::{DoctorContext, Seen};
use crate::doctor::finding::{Finding, explain, or};
use crate::profile::ProfileName;

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    let found = s.profiles.iter().filter_map(|seen| of(s, seen));
    or(found, Finding::ok("there are none; kubby start makes one"))
}

fn of(s: &DoctorContext<'_>, seen: &Seen) -> Option<Finding> {
    let name = &seen.name;
    if seen.busy {
        let why = format!("another kubby process is using `{name}`");
        return Some(Finding::skipped(why));
    }
    let profile = match &seen.profile {
        Ok(Some(profile)) => profile,
        // A leftover, which has a check of its own.
        Ok(None) => return None,
        Err(e) => {
            let detail = e.details().first().map(|(_, text)| text.replace('\n', " "));
            return Some(Finding::failure(
                format!("{}: {}", explain(e), detail.unwrap_or_default()),
                format!("correct the file by hand, or kubby delete{}", name.flag()),
            ));
        }
    };
    let Some(link) = s.link(&profile.connect) else {
        let why = format!("`{name}`: libvirt does not answer at {}", profile.connect);
        return Some(Finding::skipped(why));
    };
    if !pool::works(s, &profile.connect, link) {
        let why = format!("`{name}`: its storage pool has to be repaired first");
        return Some(Finding::skipped(why));
    }
    Some(match status(&s.env, name, false) {
        Ok(status) => judge(name, status.host, status.reason),
        Err(e) => Finding::of_error(&e, "virsh list --all"),
    })
}

fn judge(name: &ProfileName, host: HostState, reason: Option<String>) -> Finding {
    if host != HostState::Broken {
        return Finding::ok(format!("`{name}`: {host:?}"));
    }
    let reason = reason.unwrap_or_default();
    let flag = name.flag();
    // A start makes a new machine and a new disk; the content of the old one is lost already.
    let remedy = format!("kubby start{flag} makes what is missing, or kubby delete{flag}");
    Finding::failure(format!("`{name}` is broken: {reason}"), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    #[test]
    fn only_broken_clusters_are_failures() {
        let name: ProfileName = "dev".parse().unwrap();
        for (host, state) in [
            (HostState::Running, State::Ok),
            (HostState::Stopped, State::Ok),
            (HostState::Suspended, State::Ok),
            (HostState::Broken, State::Failure),
        ] {
            let found = judge(&name, host, Some("its disk is missing".into()));
            assert_eq!(found.state, state, "{host:?}");
            let named = found.reason.contains("disk is missing");
            assert_eq!(named, state == State::Failure);
        }
    }
}
