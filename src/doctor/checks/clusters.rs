//! Each cluster is complete: its profile can be read, its machine and its disk exist.

use super::pool;
use crate::cluster::operations::status::{HostState, Status, status};
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
        Ok(status) => judge(name, &status),
        Err(e) => Finding::of_error(&e, "virsh list --all"),
    })
}

fn judge(name: &ProfileName, status: &Status) -> Finding {
    let flag = name.flag();
    if status.host == HostState::Broken {
        let reason = status.reason.as_deref().unwrap_or_default();
        // A start makes a new machine and a new disk; the content of the old one is lost already.
        let remedy = format!("kubby start{flag} makes what is missing, or kubby delete{flag}");
        return Finding::failure(format!("`{name}` is broken: {reason}"), remedy);
    }
    let (run, rest): (Vec<_>, Vec<_>) = status
        .nodes
        .iter()
        .partition(|node| node.host == HostState::Running);
    if run.is_empty() || rest.is_empty() {
        return Finding::ok(format!("`{name}`: {:?}", status.host));
    }
    let rest = rest.iter().map(|n| format!("{} is {:?}", n.name, n.host));
    let rest = rest.collect::<Vec<_>>().join(", ");
    Finding::warning(
        format!("`{name}` runs without all of its nodes: {rest}"),
        format!("kubby start{flag} starts them; kubby node delete{flag} NAME takes one out"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::operations::status::NodeState;
    use crate::doctor::finding::State;
    use crate::role::Role;

    fn status(hosts: &[HostState]) -> Status {
        let node = |(i, host): (usize, &HostState)| NodeState {
            name: format!("node-{i}"),
            host: *host,
            ..NodeState::off("", Role::Worker)
        };
        Status {
            host: hosts[hosts.len() - 1],
            reason: Some("its disk is missing".into()),
            nodes: hosts.iter().enumerate().map(node).collect(),
            ..Status::nothing(&"dev".parse().unwrap())
        }
    }

    #[test]
    fn only_broken_clusters_are_failures() {
        use HostState::{Broken, Running, Stopped, Suspended};
        let name: ProfileName = "dev".parse().unwrap();
        for (hosts, state) in [
            (&[Running][..], State::Ok),
            (&[Stopped], State::Ok),
            (&[Suspended, Suspended], State::Ok),
            (&[Running, Stopped], State::Warning),
            (&[Running, Broken], State::Failure),
        ] {
            let found = judge(&name, &status(hosts));
            assert_eq!(found.state, state, "{hosts:?}");
            let named = found.reason.contains("disk is missing");
            assert_eq!(named, state == State::Failure);
            let lacks = found.reason.contains("all of its nodes: node-1 is Stopped");
            assert_eq!(lacks, state == State::Warning, "{}", found.reason);
        }
    }
}
