//! The situations that commands are tried in: each is made once, with all that belongs to others in it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::ownership::actor::Actor;
use crate::ownership::home::Patterns;
use crate::ownership::maker::Maker;
use crate::ownership::seen::Watched;

/// A state of homes, libvirt and kubeconfigs before a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Situation {
    /// The cluster is in another home by `XDG_DATA_HOME`, stopped; the terminal's home does not exist.
    OtherDataHome,
    /// The same, running, by `KUBBY_HOME`; the terminal's home has a cluster of another name.
    OtherKubbyHome,
    /// Both homes have a profile of the name, and the other one has the domain, which runs.
    SameNames,
    /// The terminal's home, written in another way, has the cluster, which runs.
    Written(&'static str),
    /// There is no cluster and no home.
    NoHome,
    /// The domain of the cluster's name has no mark; the home has no such cluster.
    Unmarked,
    /// The home has a cluster whose domain has no mark.
    UnmarkedDomain,
    /// The home has a cluster whose domain has the mark of another profile.
    OtherProfile,
    /// The home has a cluster whose domain has its mark and another UUID.
    OtherUuid,
    /// The pool of this home's name is in another folder.
    PoolElsewhere,
    /// The pool of this home's name has another home's mark.
    PoolOfOtherHome,
    /// The same, and it is off.
    PoolOfOtherHomeOff,
    /// The pool of this home's name has another user's mark.
    PoolOfOtherUser,
    /// The pool has no mark, and another home's disk is in it.
    PoolUnmarkedForeign,
    /// The pool has no mark, and is this home's.
    PoolUnmarked,
    /// The profile's file is damaged.
    ProfileDamaged,
    /// The profile's file is missing.
    ProfileMissing,
    /// The profile's file is of a newer kubby.
    ProfileNewer,
    /// There are files that a killed process has left.
    HalfWritten,
    /// The cluster's volumes were deleted by hand.
    NoVolumes,
    /// The pool is off.
    PoolOff,
    /// The pool was undefined by hand.
    NoPool,
    /// The pool's folder was removed by hand.
    NoPoolFolder,
    /// The kubeconfig has an entry of the user's own with the context's name.
    UsersContext,
    /// The kubeconfig has another home's entry with the context's name.
    OtherHomesContext,
    /// The kubeconfig is damaged.
    KubeconfigDamaged,
    /// `KUBECONFIG` is relative, and the command runs in another folder than the start.
    RelativeKubeconfig,
    /// The home is of an earlier version, with its pool.
    Earlier,
    /// The same in a folder by `XDG_DATA_HOME`, reached by `KUBBY_HOME`.
    EarlierByAnotherVariable,
}

/// A situation that was made.
pub struct Case<'a> {
    pub actor: &'a Actor<'a>,
    /// The folder of all of it.
    pub root: PathBuf,
    pub profile: String,
    /// The environment of the terminal.
    pub variables: Vec<(&'static str, OsString)>,
    /// The home of the terminal.
    pub home: PathBuf,
    /// The home that a refusal names.
    pub other: PathBuf,
    /// What commands of this terminal's home may change.
    pub own: Watched,
    /// What was made, and what could be made by mistake.
    pub watched: Watched,
}

impl Situation {
    /// Returns whether the situation can be made without harm: the pool of an earlier version's default
    /// home has the same name for everybody, and may be in use.
    pub fn is_possible(self, actor: &Actor<'_>) -> bool {
        let usual = Path::new("/var/lib/libvirt/images/kubby");
        self != Situation::EarlierByAnotherVariable
            || actor.virsh(&["pool-info kubby".to_owned()]).code != 0
                && !(actor.is_system() && usual.exists())
    }

    /// Makes the situation for a cluster of this name.
    pub fn make<'a>(
        self,
        actor: &'a Actor<'a>,
        patterns: &'a Patterns,
        profile: &str,
        user: u32,
    ) -> Case<'a> {
        Maker::new(actor, patterns, profile, user).make(self)
    }
}

impl Drop for Case<'_> {
    /// Removes all of it, also when the test has failed.
    fn drop(&mut self) {
        let domains = self.watched.domains.iter();
        let pools = self.watched.pools.iter();
        let mut commands: Vec<String> = domains
            .flat_map(|name| [format!("destroy {name}"), format!("undefine {name}")])
            .collect();
        commands.extend(pools.flat_map(|name| {
            [
                format!("pool-destroy {name}"),
                format!("pool-undefine {name}"),
            ]
        }));
        let _ = self.actor.virsh(&commands);
        for folder in &self.watched.folders {
            let _ = fs::remove_dir_all(folder);
        }
    }
}
