//! Forks: a second, independent cluster with the data of the first.

use crate::cluster::Access;
use crate::cluster::StartOptions;
use crate::cluster::machine::preflight;
use crate::cluster::saved::identity;
use crate::cluster::saved::load;
use crate::cluster::saved::restore::{self, Whose};
use crate::cluster::saved::save::{Capture, Purpose};
use crate::cluster::saved::snapshots::{self, SnapshotName};
use crate::cluster::saved::state::SavedDir;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil;
use crate::hypervisor::{Hypervisor, Libvirt};
use crate::profile::{Profile, ProfileName};
use crate::progress::Progress;
use crate::store::{ProfileDir, Store};
use crate::units::Mebibytes;

/// Where a new cluster's folder keeps what it is made from until it is made.
pub(crate) const ORIGIN: &str = "origin";

/// How the name of a folder begins in which a fork is made.
pub(crate) const STAGING: &str = ".fork-";

/// The folder in which a fork is made before it gets its name, so that a fork that is cut short is
/// no cluster: no profile's name begins so. The process that makes it is in its name.
fn staging(store: &Store) -> ProfileDir {
    ProfileDir::at(
        store
            .profiles_dir()
            .join(format!("{STAGING}{}", std::process::id())),
    )
}

/// The folders of forks that are being made.
pub(crate) fn in_progress(store: &Store) -> Vec<ProfileDir> {
    let (living, _) = fsutil::of_processes(&store.profiles_dir(), STAGING);
    living.into_iter().map(ProfileDir::at).collect()
}

/// Removes the folders of forks that a killed process has left.
///
/// # Errors
/// [`Kind::Internal`] when one cannot be removed.
pub(crate) fn remove_abandoned(store: &Store) -> Result<()> {
    fsutil::of_living_processes(&store.profiles_dir(), STAGING).map(drop)
}

/// Makes the cluster `new` from what `name` is at this moment, or from one of its snapshots. The
/// source goes on; the fork is off, and its next start takes it up. `to_start` says that this will
/// be at once, so that the host must have the memory for both.
///
/// # Errors
/// [`Kind::State`] where the source is not there or the fork is already; [`Kind::Preflight`] where
/// machines cannot be saved, or there is no room. Nothing of the fork is left then.
pub fn fork(
    store: &Store,
    name: &ProfileName,
    new: &ProfileName,
    from: Option<&SnapshotName>,
    to_start: bool,
    progress: &dyn Progress,
) -> Result<()> {
    if name == new {
        return Err(Error::new(
            Kind::Usage,
            "a cluster cannot be forked to its own name",
        ));
    }
    // In the order of their names, so that two forks the other way round never wait for each other.
    let _first = crate::cluster::lock(store, name.min(new), progress)?;
    let _second = crate::cluster::lock(store, name.max(new), progress)?;
    let mut source = Access::open(store, name)?;
    let dir = store.profile_dir(new);
    if Profile::load(&dir)?.is_some() {
        return Err(Error::new(
            Kind::State,
            format!("there is a cluster named `{new}` already"),
        )
        .with_hint(format!("choose another name, or kubby delete -p {new}")));
    }
    let hypervisor = Libvirt::open(&source.profile.connect)?;
    let host = hypervisor.host()?;
    load::require(&host)?;
    if to_start {
        // Its start looks as well, but the source would have stood still for nothing by then.
        preflight::check_memory_left(Some(Mebibytes(source.profile.memory_mib)), &host)?;
    }
    let names = crate::cluster::machine::resources::Names::of(store, new, &source.profile.connect);
    preflight::check_domain(&hypervisor, &names, store, new, None)?;
    preflight::check_kubeconfig(store, new, &source.profile.kubeconfig)?;
    let step = progress.step(&format!("Fork `{name}` to `{new}`"));
    let staged = staging(store);
    fsutil::remove_all(dir.root())?;
    fsutil::remove_all(staged.root())?;
    let made = make(store, &hypervisor, &mut source, new, from, &step).and_then(|()| {
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
    store: &Store,
    hypervisor: &Libvirt,
    source: &mut Access,
    new: &ProfileName,
    from: Option<&SnapshotName>,
    step: &crate::progress::Step,
) -> Result<()> {
    let dir = staging(store);
    fsutil::create_private_dir(dir.root())?;
    let origin = SavedDir::at(dir.root().join(ORIGIN));
    let (saved, folder) = match from {
        Some(snapshot) => {
            let (saved, folder) = snapshots::require(source, snapshot)?;
            let names = crate::cluster::machine::resources::Names::new(store, &source.profile);
            load::check(&saved, &names, &hypervisor.host()?)?;
            (saved, folder)
        }
        None => {
            if restore::is_suspended(source) {
                return Err(snapshots::suspended(&source.profile.name));
            }
            snapshots::require_disk(source, hypervisor, store)?;
            let capture = Capture {
                hypervisor,
                store,
                step,
            };
            let keys = identity::keys_of_node(source);
            let saved = capture.take(source, &keys, Purpose::Fork, &origin)?;
            (saved, origin.clone())
        }
    };
    let ports = {
        let _shared = store.lock_shared(|| {})?;
        preflight::choose_ports(store, new, &StartOptions::default())?
    };
    let mut access = Access {
        profile: Profile {
            name: new.clone(),
            uuid: uuid::Uuid::new_v4().to_string(),
            ports,
            // A context in the source's own file would go with the source.
            kubeconfig: if source.profile.kubeconfig == source.dir.kubeconfig() {
                store.profile_dir(new).kubeconfig()
            } else {
                saved.profile.kubeconfig.clone()
            },
            // The source keeps its ports; `kubby service` opens others for the fork.
            forwards: Vec::new(),
            ..saved.profile.clone()
        },
        dir,
    };
    restore::adopt(
        hypervisor,
        store,
        &mut access,
        &saved,
        &folder,
        Whose::Anothers,
    )?;
    fsutil::remove_all(&origin.root)
}
