//! `kubby fork`: a second, independent cluster with the data of the first.

use crate::cluster::Cluster;
use crate::cluster::context;
use crate::cluster::env::Env;
use crate::cluster::machine::host::Host;
use crate::cluster::machine::ports::{self, AskedPorts};
use crate::cluster::machine::{Machine, room};
use crate::cluster::saved::restore;
use crate::cluster::saved::save::{Save, SaveReason};
use crate::cluster::saved::state::SavedDir;
use crate::cluster::saved::{snapshots, support};
use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil;
use crate::name::{ProfileName, SnapshotName};
use crate::profile::Profile;
use crate::progress::Step;
use crate::units::Mebibytes;

/// Forks a cluster as it is in the snapshot `from`, or without one as it is now. The source continues; the
/// fork is off, and its next start resumes it. With `to_start` that is at once, so that the host needs
/// memory for both.
///
/// # Errors
/// [`Kind::State`] if the source does not exist or the fork does already; [`Kind::Preflight`] if
/// machines cannot be saved here, or there is no room. Nothing of the fork is left then.
pub(crate) fn fork(
    env: &Env<'_>,
    name: &ProfileName,
    new: &ProfileName,
    from: Option<&SnapshotName>,
    to_start: bool,
) -> Result<()> {
    if name == new {
        return Err(Error::usage("a cluster cannot be forked to its own name"));
    }
    let mut source = Cluster::open(env.store, name)?;
    // In the order of their names, so that two forks in opposite directions never wait for each other.
    let _first = env.lock(name.min(new))?;
    let _second = env.lock(name.max(new))?;
    source.profile = Cluster::open(env.store, name)?.profile;
    let dir = env.store.profile_dir(new);
    if Profile::load(&dir)?.is_some() {
        return Err(
            Error::state(format!("there is a cluster named `{new}` already"))
                .with_hint(format!("choose another name, or kubby delete -p {new}")),
        );
    }
    let host = Host::open(env, &source.profile.connect)?;
    let info = host.info()?;
    support::require(&info)?;
    if to_start {
        // Its start checks as well, but the source would have been paused in vain by then.
        let nodes = source.profile.nodes.iter();
        let memory = Mebibytes(nodes.map(|node| node.machine.memory_mib).sum());
        room::check_memory_left(Some(memory), &info)?;
    }
    Machine::without_profile(&host, new).require_absent()?;
    host.has_own_pool()?;
    context::check(env.store, new, &source.profile.kubeconfig)?;
    let step = env.progress.step(&format!("Fork `{name}` to `{new}`"));
    let staged = env.store.fork_staging();
    fsutil::remove_all(dir.root())?;
    fsutil::remove_all(staged.root())?;
    let made = make(env, &host, &mut source, new, from, &step).and_then(|()| {
        fsutil::rename(staged.root(), dir.root()).context(Kind::Internal, || {
            format!("cannot move the fork to {}", dir.root().display())
        })
    });
    if made.is_err() {
        let _ = fsutil::remove_all(staged.root());
    }
    made?;
    step.done("");
    Ok(())
}

fn make(
    env: &Env<'_>,
    host: &Host<'_>,
    source: &mut Cluster,
    new: &ProfileName,
    from: Option<&SnapshotName>,
    step: &Step,
) -> Result<()> {
    let dir = env.store.fork_staging();
    fsutil::create_private_dir(dir.root())?;
    let origin = SavedDir::at(dir.fork_origin());
    let (parts, folder) = match from {
        Some(snapshot) => {
            let (parts, folder) = snapshots::require(source, snapshot)?;
            support::check_all(&parts, host.target(), &host.info()?)?;
            (parts, folder)
        }
        None => {
            let machines = Machine::all(host, &source.profile)?;
            snapshots::check_source(source, &machines)?;
            let save = Save {
                env,
                machines: machines.iter().enumerate().collect(),
                step,
                reason: SaveReason::Fork,
            };
            let written = save.write(source, &origin)?;
            (written.parts, origin.clone())
        }
    };
    let mut profile = parts[0].profile.clone();
    profile.name = new.clone();
    // The source keeps its forwards; `kubby service` opens others for the fork.
    profile.forwards.clear();
    profile.opened.clone_from(&source.profile.opened);
    profile.endpoint = None;
    // A context in the source's own file would be deleted with the source.
    if source.profile.kubeconfig == source.dir.kubeconfig() {
        profile.kubeconfig = env.store.profile_dir(new).kubeconfig();
    }
    let several = profile.nodes.len() > 1;
    let shared = env.lock_shared()?;
    let mut taken = ports::of_others(env.store, new)?;
    for node in &mut profile.nodes {
        node.uuid = uuid::Uuid::new_v4().to_string();
        node.ports = ports::choose(&mut taken, new, node.role, several, AskedPorts::default())?;
    }
    drop(shared);
    let mut fork = Cluster { profile, dir };
    restore::restore(env, host, &mut fork, &parts, &folder)?;
    fsutil::remove_all(&origin.root)
}
