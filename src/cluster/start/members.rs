//! Making the etcd of a new control plane a member, and its vote.

use std::time::{Duration, Instant};

use crate::cluster::machine::watch::Watcher;
use crate::error::{Error, Result};
use crate::network::NodeNetwork;
use crate::progress::Step;
use crate::provision::{self, Member};
use crate::remote::Remote;
use crate::wait;

/// The pause between two attempts to give a member its vote.
const RETRY: Duration = Duration::from_secs(1);

/// Adds the etcd of a node to the members that the first control plane knows, unless it is one. Returns
/// whether it has no vote yet, which [`promote`] gives it; its etcd begins with its next configuration.
///
/// # Errors
/// [`Kind::Unhealthy`](crate::error::Kind::Unhealthy) when etcd does not answer or refuses, [`Kind::NodeUnreachable`](crate::error::Kind::NodeUnreachable) when SSH fails.
pub(super) fn admit(
    first: &mut dyn Remote,
    first_node: &NodeNetwork,
    remote: &mut dyn Remote,
    node: &NodeNetwork,
) -> Result<bool> {
    let members = provision::members(first)?;
    let admission = provision::admission(&members, node, provision::has_member_data(remote)?);
    if !admission.add {
        let own = members.iter().find(|member| member.is_of(node));
        if own.is_some_and(|member| member.name.is_empty()) {
            // A start that was cut short has added it, and may not have sent the file.
            remote.push(&[provision::members_file(&members, node)])?;
        }
        return Ok(own.is_some_and(|member| member.is_learner));
    }
    // An only member is reached by itself only.
    let only = members.iter().find(|member| member.is_of(first_node));
    if let Some(only) = only.filter(|member| member.peers != [first_node.etcd_peer_url()]) {
        provision::move_member(first, only, first_node)?;
    }
    if let Some(member) = &admission.remove {
        provision::remove_member(first, member)?;
    }
    if admission.forget_data {
        provision::forget_member_data(remote)?;
    }
    provision::add_member(first, node)?;
    let members = provision::members(first)?;
    remote.push(&[provision::members_file(&members, node)])?;
    Ok(true)
}

/// Gives the etcd of a node its vote as soon as it has all that the others have.
///
/// # Errors
/// As [`admit`], and of the watcher; [`Kind::Unhealthy`](crate::error::Kind::Unhealthy) when the deadline passes.
pub(super) fn promote(
    first: &mut dyn Remote,
    node: &NodeNetwork,
    watcher: &mut Watcher<'_>,
    step: &Step,
    deadline: Instant,
) -> Result<()> {
    let has_vote = wait::poll(deadline, RETRY, || {
        let members = provision::members(first)?;
        let own: Option<&Member> = members.iter().find(|member| member.is_of(node));
        let own = own.ok_or_else(|| Error::unhealthy("etcd has no such member"))?;
        if !own.is_learner {
            return Ok(Some(()));
        }
        step.detail("etcd gets what the others have");
        if !own.name.is_empty() && provision::promote_member(first, own)? {
            return Ok(Some(()));
        }
        watcher.look()?;
        Ok(None)
    })?;
    has_vote.ok_or_else(|| {
        Error::unhealthy(format!(
            "the etcd of `{}` did not get what the others have in time",
            node.name
        ))
        .with_hint(format!(
            "kubby logs --node {} etcd shows its journal",
            node.name
        ))
    })
}
