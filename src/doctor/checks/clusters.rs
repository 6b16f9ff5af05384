//! Each cluster is whole: its profile can be read, its machine and its disk are there.

use super::pool;
use crate::cluster;
use crate::cluster::HostState;
use crate::doctor::finding::{Finding, explain};
use crate::doctor::surroundings::{Seen, Surroundings};
use crate::profile::ProfileName;

const NAME: &str = "clusters";

pub(in crate::doctor) fn look(s: &Surroundings<'_>) -> Vec<Finding> {
    let mut found: Vec<Finding> = s.profiles.iter().filter_map(|seen| of(s, seen)).collect();
    if found.is_empty() {
        found.push(Finding::ok(NAME, "there are none; kubby start makes one"));
    }
    found
}

fn of(s: &Surroundings<'_>, seen: &Seen) -> Option<Finding> {
    let name = &seen.name;
    if seen.busy {
        return Some(Finding::skipped(
            NAME,
            format!("another kubby works on `{name}`"),
        ));
    }
    let profile = match &seen.profile {
        Ok(Some(profile)) => profile,
        // A leftover, which has a check of its own.
        Ok(None) => return None,
        Err(e) => {
            let detail = e.details().first().map(|(_, text)| text.replace('\n', " "));
            return Some(Finding::failure(
                NAME,
                format!("{}: {}", explain(e), detail.unwrap_or_default()),
                format!("mend the file by hand, or kubby delete{}", name.flag()),
            ));
        }
    };
    let Some(link) = s.link(&profile.connect) else {
        let why = format!("`{name}`: libvirt does not answer at {}", profile.connect);
        return Some(Finding::skipped(NAME, why));
    };
    if !pool::works(s, &profile.connect, link) {
        let why = format!("`{name}`: its storage pool has to be put right first");
        return Some(Finding::skipped(NAME, why));
    }
    Some(match cluster::status(s.store, name, false) {
        Ok(status) => judge(name, status.host, status.reason),
        Err(e) => Finding::of_error(NAME, &e, "virsh list --all"),
    })
}

fn judge(name: &ProfileName, host: HostState, reason: Option<String>) -> Finding {
    if host != HostState::Broken {
        return Finding::ok(NAME, format!("`{name}`: {host:?}"));
    }
    let reason = reason.unwrap_or_default();
    let flag = name.flag();
    // A start makes a new machine and a new disk; what was on the old one is gone already.
    let remedy = format!("kubby start{flag} makes what is missing, or kubby delete{flag}");
    Finding::failure(NAME, format!("`{name}` is broken: {reason}"), remedy)
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
