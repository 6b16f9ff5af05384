//! The members of etcd, as a control plane sees them whose etcd is one of them.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::etcd::{DATA, MEMBERS, SOCKET_URL, VOTER};
use super::unit::FIRST_TARGET;
use super::wanted::{binary, public};
use crate::error::{Error, Result};
use crate::network::NodeNetwork;
use crate::remote::{NodeFile, Output, Remote, quote};
use crate::wait;

/// A member of etcd.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Member {
    /// Its number.
    #[serde(rename = "ID")]
    pub id: u64,
    /// Its name; empty until it has begun.
    #[serde(default)]
    pub name: String,
    /// The URLs at which the others reach it.
    #[serde(default, rename = "peerURLs")]
    pub peers: Vec<String>,
    /// It has no vote yet.
    #[serde(default, rename = "isLearner")]
    pub is_learner: bool,
}

impl Member {
    /// Returns whether it is that of a node.
    pub(crate) fn is_of(&self, node: &NodeNetwork) -> bool {
        self.name == node.name || self.peers.contains(&node.etcd_peer_url())
    }

    /// Returns its number as etcd's commands read it.
    fn hex(&self) -> String {
        format!("{:x}", self.id)
    }
}

/// The answer to the question for members.
#[derive(Deserialize)]
struct Members {
    members: Vec<Member>,
}

/// The steps by which an etcd becomes a member, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Admission {
    /// The member to remove: that of a disk that is gone.
    pub remove: Option<Member>,
    /// Its data belongs to an earlier membership.
    pub forget_data: bool,
    /// It has to be added.
    pub add: bool,
}

/// Decides how the etcd of a node becomes a member: whether it is one, and whether it has data, have to fit.
pub(crate) fn admission(members: &[Member], node: &NodeNetwork, has_data: bool) -> Admission {
    let own = members.iter().find(|member| member.is_of(node));
    let fits = own.is_some_and(|member| member.name.is_empty() != has_data);
    match fits {
        true => Admission::default(),
        false => Admission {
            remove: own.cloned(),
            forget_data: has_data,
            add: true,
        },
    }
}

/// Lists the members.
///
/// # Errors
/// [`Kind::Unhealthy`](crate::error::Kind::Unhealthy) when etcd does not answer, [`Kind::NodeUnreachable`](crate::error::Kind::NodeUnreachable) when SSH fails.
pub(crate) fn members(remote: &mut dyn Remote) -> Result<Vec<Member>> {
    let answer = ask(remote, &["member", "list", "-w", "json"])?;
    let output = answer.require("listing the members of etcd")?;
    parse(&output.stdout)
}

fn parse(json: &[u8]) -> Result<Vec<Member>> {
    let members: Members = serde_json::from_slice(json)
        .map_err(|e| Error::unhealthy("etcd does not say which members it has").with_source(e))?;
    Ok(members.members)
}

/// Returns whether a node has data of etcd.
///
/// # Errors
/// As [`members`].
pub(crate) fn has_member_data(remote: &mut dyn Remote) -> Result<bool> {
    Ok(remote.run(&format!("test -e {DATA}/member"))?.success())
}

/// Removes a node's data of etcd, which has no place in the cluster any more.
///
/// # Errors
/// As [`members`].
pub(crate) fn forget_member_data(remote: &mut dyn Remote) -> Result<()> {
    let script = format!(
        "systemctl stop kube-apiserver etcd 2>/dev/null; rm -rf {DATA}/member {MEMBERS} {VOTER}"
    );
    remote
        .run(&script)?
        .require("removing the data of an earlier member of etcd")
        .map(drop)
}

/// Changes the address at which the members reach one of them.
///
/// # Errors
/// As [`members`].
pub(crate) fn move_member(
    remote: &mut dyn Remote,
    member: &Member,
    node: &NodeNetwork,
) -> Result<()> {
    let url = format!("--peer-urls={}", node.etcd_peer_url());
    let update = ["member", "update", &member.hex(), &url];
    change(remote, &update, "changing the address of a member of etcd")
}

/// Adds a member that has no vote yet.
///
/// # Errors
/// As [`members`].
pub(crate) fn add_member(remote: &mut dyn Remote, node: &NodeNetwork) -> Result<()> {
    let url = format!("--peer-urls={}", node.etcd_peer_url());
    let add = ["member", "add", &node.name, "--learner", &url];
    change(remote, &add, "adding a member to etcd")
}

/// Removes a member.
///
/// # Errors
/// As [`members`].
pub(crate) fn remove_member(remote: &mut dyn Remote, member: &Member) -> Result<()> {
    let remove = ["member", "remove", &member.hex()];
    change(remote, &remove, "removing a member from etcd")
}

/// Gives a member its vote. Returns `false` while it does not have all that the others have yet.
///
/// # Errors
/// As [`members`].
pub(crate) fn promote_member(remote: &mut dyn Remote, member: &Member) -> Result<bool> {
    let answer = ask(remote, &["member", "promote", &member.hex()])?;
    let words = String::from_utf8_lossy(&answer.stderr).into_owned();
    if !answer.success() && words.contains("in sync with leader") {
        return Ok(false);
    }
    answer.require("giving a member of etcd its vote")?;
    Ok(true)
}

/// Lets the kube-apiserver of a control plane begin, whose etcd has its vote.
///
/// # Errors
/// As [`members`].
pub(crate) fn serve(remote: &mut dyn Remote) -> Result<()> {
    let script = format!(
        "[ -e {VOTER} ] || {{ touch {VOTER} && systemctl start --no-block {FIRST_TARGET}; }}"
    );
    remote
        .run(&script)?
        .require("starting kube-apiserver")
        .map(drop)
}

/// Makes another member the leader, if the one that is asked leads: an election costs more than a handover.
///
/// # Errors
/// As [`members`].
pub(crate) fn hand_over_lead(remote: &mut dyn Remote, to: &Member) -> Result<()> {
    let answer = ask(remote, &["move-leader", &to.hex()])?;
    if String::from_utf8_lossy(&answer.stderr).contains("no leader endpoint found") {
        return Ok(());
    }
    answer.require("handing over the lead of etcd").map(drop)
}

/// Returns the file that a new etcd needs, with the members that it meets, itself among them.
pub(crate) fn members_file(members: &[Member], node: &NodeNetwork) -> NodeFile {
    let entry = |member: &Member| {
        let name = match member.is_of(node) {
            true => &node.name,
            false => &member.name,
        };
        let urls = member.peers.iter();
        let entries = urls.map(|url| format!("{name}={url}"));
        entries.collect::<Vec<_>>().join(",")
    };
    let all: Vec<String> = members.iter().map(entry).collect();
    let all = all.join(",");
    public(
        MEMBERS,
        format!("ETCD_INITIAL_CLUSTER={all}\nETCD_INITIAL_CLUSTER_STATE=existing\n"),
    )
}

/// The words of etcd where it takes a change of its members a moment later: it wants to have been connected to
/// all of them for five seconds.
const NOT_YET: [&str; 2] = ["unhealthy cluster", "not enough started members"];

/// The limit for that, and the pause between two attempts.
const TAKES: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(1);

/// Changes the members, as soon as etcd takes it.
fn change(remote: &mut dyn Remote, args: &[&str], what: &str) -> Result<()> {
    let taken = wait::poll(Instant::now() + TAKES, RETRY, || {
        let answer = ask(remote, args)?;
        let words = String::from_utf8_lossy(&answer.stderr);
        let not_yet = !answer.success() && NOT_YET.iter().any(|not_yet| words.contains(not_yet));
        Ok((!not_yet).then_some(answer))
    })?;
    let answer = match taken {
        Some(answer) => answer,
        None => ask(remote, args)?,
    };
    answer.require(what).map(drop)
}

fn ask(remote: &mut dyn Remote, args: &[&str]) -> Result<Output> {
    let args: Vec<String> = args.iter().map(|arg| quote(arg)).collect();
    remote.run(&format!(
        "{} --endpoints={SOCKET_URL} --command-timeout=20s {}",
        binary("etcdctl"),
        args.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;

    fn node() -> NodeNetwork {
        Network::default().node("control-plane-2", 2)
    }

    fn member(name: &str, url: &str) -> Member {
        Member {
            id: 0xfedc_ba98_7654_3210,
            name: name.into(),
            peers: vec![url.into()],
            is_learner: true,
        }
    }

    #[test]
    fn etcds_answer_is_read() {
        let json = br#"{"header":{"cluster_id":1},"members":[
            {"ID":18364758544493064720,"name":"kubby","peerURLs":["https://10.245.0.1:2380"],"clientURLs":["x"]},
            {"ID":5,"peerURLs":["https://10.245.0.2:2380"],"isLearner":true}]}"#;
        let members = parse(json).unwrap();
        assert_eq!(members[0].hex(), "fedcba9876543210");
        assert!(!members[0].is_learner && members[1].is_learner);
        assert!(members[1].is_of(&node()) && !members[0].is_of(&node()));
        assert!(parse(b"").is_err());
        let file = members_file(&members, &node());
        let text = String::from_utf8(file.content.clone()).unwrap();
        assert!(
            text.contains(
                "kubby=https://10.245.0.1:2380,control-plane-2=https://10.245.0.2:2380\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_member_and_its_data_have_to_fit() {
        let url = node().etcd_peer_url();
        let others = member("kubby", "https://10.245.0.1:2380");
        let (begun, not_begun) = (member("control-plane-2", &url), member("", &url));
        let decide = |own: Option<&Member>, has_data| {
            let all: Vec<Member> = [&others].into_iter().chain(own).cloned().collect();
            admission(&all, &node(), has_data)
        };
        assert_eq!(decide(Some(&begun), true), Admission::default());
        assert_eq!(decide(Some(&not_begun), false), Admission::default());
        for (own, has_data) in [
            (None, false),
            (None, true),
            (Some(&begun), false),
            (Some(&not_begun), true),
        ] {
            let found = decide(own, has_data);
            assert_eq!(found.remove.as_ref(), own);
            assert_eq!((found.forget_data, found.add), (has_data, true));
        }
    }
}
