//! Taking a control plane out of etcd before its machine is deleted.

use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::profile::NodeProfile;
use crate::provision;
use crate::remote::Remote;
use crate::role::Role;
use crate::wait;

/// The limits with hardware virtualisation: for a login, and for the API after etcd has become the only member.
const LOGIN: Duration = Duration::from_secs(5);
const API_IS_BACK: Duration = Duration::from_secs(60);

/// The pause between two questions for the API.
const RETRY: Duration = Duration::from_secs(1);

/// Checks that the control planes that stay have a majority without `node`. Where none of them answers, `force`
/// makes the first one etcd's only member, so that the cluster answers again.
///
/// # Errors
/// [`Kind::State`] where they have none, without `force` or while one of them answers; [`Kind::Unhealthy`] when
/// etcd or the API does not come back.
pub(super) fn check_majority(
    env: &Env<'_>,
    cluster: &Cluster,
    node: &NodeProfile,
    force: bool,
) -> Result<()> {
    let all = cluster.profile.of_role(Role::ControlPlane);
    let (own, stay): (Vec<_>, Vec<_>) = all.partition(|other| other.name == node.name);
    let works = |other: &&&NodeProfile| {
        let api = cluster.api_of(env.backend, other);
        api.and_then(|api| api.ready()).is_ok()
    };
    let work = stay.iter().filter(works).count();
    let needed = stay.len() / 2 + 1;
    if work >= needed {
        return Ok(());
    }
    // What the majority has acknowledged is not given up while it answers.
    let answers = work > 0 || own.iter().any(|own| works(&own));
    if !force || answers {
        let flag = cluster.flag();
        let error = Error::state(format!(
            "etcd would have no majority without `{}`: {work} of the other control planes work, and {needed} \
             have to",
            node.name
        ))
        .with_hint(format!("kubby start{flag} repairs the others"));
        return Err(match answers {
            true => error,
            false => error.with_hint(format!(
                "kubby node delete{flag} {} --force makes `{}` the only one that counts: what it has not heard \
                 of is lost, and the others begin again as copies of it",
                node.name,
                cluster.profile.first().name
            )),
        });
    }
    env.progress.warn(&format!(
        "`{}` becomes etcd's only member: what it has not heard of is lost",
        cluster.profile.first().name
    ));
    stand_alone(env, cluster)
}

/// The script that makes an etcd the only member of its cluster, with its data.
const STAND_ALONE: &str = "\
set -eu
dir=/run/systemd/system/etcd.service.d
trap 'rm -rf $dir; systemctl daemon-reload' EXIT
systemctl stop kube-apiserver etcd
mkdir -p $dir
printf '[Service]\\nEnvironment=ETCD_FORCE_NEW_CLUSTER=true\\n' > $dir/alone.conf
systemctl daemon-reload
systemctl start etcd
systemctl start --no-block kube-apiserver
";

fn stand_alone(env: &Env<'_>, cluster: &Cluster) -> Result<()> {
    let step = env
        .progress
        .step("Make the first control plane the only one");
    let mut first = session(env, cluster, cluster.profile.first())?;
    first
        .run(STAND_ALONE)?
        .require("making etcd the only member")?;
    // Its own, since the address for kubectl may lead to another one.
    let api = cluster.api_of(env.backend, cluster.profile.first())?;
    let deadline = Instant::now() + cluster.deadline(API_IS_BACK);
    wait::retry(deadline, RETRY, Kind::Unhealthy, || api.ready())
        .context(Kind::Unhealthy, || "the API did not come back".into())?;
    step.done("");
    Ok(())
}

/// Takes a node's etcd out of the members; the lead goes to another one before.
///
/// # Errors
/// [`Kind::Unhealthy`] when etcd does not answer or refuses.
pub(super) fn leave(env: &Env<'_>, cluster: &Cluster, node: &NodeProfile) -> Result<()> {
    let mut first = session(env, cluster, cluster.profile.first())?;
    let members = provision::members(first.as_mut())?;
    let find = |node: &NodeProfile| {
        let addresses = node.addresses();
        members.iter().find(|member| member.is_of(&addresses))
    };
    let Some(own) = find(node) else {
        return Ok(());
    };
    if let Some(heir) = find(cluster.profile.first()) {
        // One that is off does not lead.
        let asked = session(env, cluster, node);
        let _ = asked.and_then(|mut own| provision::hand_over_lead(own.as_mut(), heir));
    }
    provision::remove_member(first.as_mut(), own)
}

fn session(env: &Env<'_>, cluster: &Cluster, node: &NodeProfile) -> Result<Box<dyn Remote>> {
    env.backend
        .connect(&cluster.target_of(node)?, cluster.deadline(LOGIN))
}
