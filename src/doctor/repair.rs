//! The repairs of `--fix`: each takes the lock of what it changes, checks once more, and leaves
//! alone what another kubby process is using.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::files::listed;
use super::owned;
use crate::cluster::env::Env;
use crate::cluster::machine::Machine;
use crate::cluster::machine::host::Host;
use crate::cluster::{Cluster, context};
use crate::endpoint::Endpoint;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil::{self, Lock};
use crate::kubeconfig;
use crate::profile::ProfileName;
use crate::store::Store;

/// The lock that protects what is to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Guard {
    /// None: the process that made it has ended.
    None,
    /// The lock that all profiles of the home share.
    Shared,
    /// The lock on this file.
    File(PathBuf),
}

/// A repair, as data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Repair {
    /// Removes files and folders that nothing uses.
    Remove(Vec<(PathBuf, Guard)>),
    /// Gives files and folders these modes.
    Restrict(Vec<(PathBuf, u32)>),
    /// Makes the pool's folder and starts the pool; defines it where libvirt has lost it.
    EnsurePool { uri: String },
    /// Removes the pool if it is empty.
    RemovePool { uri: String },
    /// Removes the folder of a profile that has no profile file.
    RemoveProfileFolder { profile: ProfileName },
    /// Stops and undefines a domain of this home whose profile is gone.
    RemoveDomain { uri: String, profile: ProfileName },
    /// Removes the volumes that nothing needs.
    RemoveVolumes { uri: String },
    /// Removes the context of a profile that is gone from a kubeconfig.
    RemoveContext {
        file: PathBuf,
        context: String,
        profile: ProfileName,
    },
    /// Writes a cluster's context again.
    WriteContext { profile: ProfileName },
    /// Starts the program again that leads to a cluster's control planes.
    StartEndpoint { profile: ProfileName },
}

impl Repair {
    /// Applies the repair and returns what was done.
    pub(super) fn apply(&self, env: &Env<'_>) -> Result<String> {
        let store = env.store;
        match self {
            Repair::Remove(all) => remove(store, all),
            Repair::Restrict(all) => restrict(all),
            Repair::EnsurePool { uri } => ensure_pool(env, uri),
            Repair::RemovePool { uri } => {
                let _lock = shared(store)?;
                // Fails if something is in it by now.
                Host::open(env, uri)?.remove_pool_if_empty()?;
                Ok(format!("removed the storage pool {}", store.pool_name()))
            }
            Repair::RemoveProfileFolder { profile } => {
                let _lock = own(store, profile)?;
                let dir = store.profile_dir(profile);
                fail_if(dir.profile().exists())?;
                fsutil::remove_all(dir.root())?;
                Ok(format!("removed {}", dir.root().display()))
            }
            Repair::RemoveDomain { uri, profile } => remove_domain(env, uri, profile),
            Repair::RemoveVolumes { uri } => remove_volumes(env, uri),
            Repair::RemoveContext {
                file,
                context,
                profile,
            } => {
                let _lock = own(store, profile)?;
                fail_if(store.profile_dir(profile).root().exists())?;
                let owner = context::owner(store, profile);
                kubeconfig::uninstall(file, context, &owner)?;
                let file = file.display();
                Ok(format!("removed the context `{context}` from {file}"))
            }
            Repair::StartEndpoint { profile } => {
                let _lock = own(store, profile)?;
                Endpoint::of(&store.profile_dir(profile)).start_again()?;
                Ok("started HAProxy, which leads to the control planes".into())
            }
            Repair::WriteContext { profile } => {
                let _lock = own(store, profile)?;
                let cluster = Cluster::open(store, profile)?;
                let entry = context::expected(&cluster, store)?;
                let file = &cluster.profile.kubeconfig;
                // Which context is current is the user's choice.
                kubeconfig::install(file, &entry, false)?;
                let (name, file) = (entry.name, file.display());
                Ok(format!("wrote the context `{name}` to {file}"))
            }
        }
    }
}

fn remove(store: &Store, all: &[(PathBuf, Guard)]) -> Result<String> {
    for (path, guard) in all {
        let _lock = match guard {
            Guard::None => None,
            Guard::Shared => Some(shared(store)?),
            Guard::File(file) => Some(Lock::try_acquire(file)?.ok_or_else(busy)?),
        };
        fsutil::remove_all(path)?;
    }
    Ok(format!("removed {}", listed(all.iter().map(|(p, _)| p))))
}

fn restrict(all: &[(PathBuf, u32)]) -> Result<String> {
    let mut changed = Vec::new();
    for (path, mode) in all {
        let fail = || format!("cannot change the mode of {}", path.display());
        fs::set_permissions(path, fs::Permissions::from_mode(*mode))
            .context(Kind::Internal, fail)?;
        changed.push(format!("{mode:04o} {}", path.display()));
    }
    Ok(format!("chmod {}", changed.join(", ")))
}

fn ensure_pool(env: &Env<'_>, uri: &str) -> Result<String> {
    let _lock = shared(env.store)?;
    let host = Host::open(env, uri)?;
    let target = host.target();
    // libvirt makes only the folder of a pool that is off. The mode is that of a new pool's folder.
    if host.reaches_files() && !target.exists() {
        host.make_folder()?;
    }
    host.ensure_pool()?;
    host.libvirt().refresh_pool(host.pool())?;
    let (pool, target) = (host.pool(), target.display());
    Ok(format!("the storage pool {pool} is started, in {target}"))
}

fn remove_domain(env: &Env<'_>, uri: &str, profile: &ProfileName) -> Result<String> {
    let _lock = own(env.store, profile)?;
    let host = Host::open(env, uri)?;
    let machine = Machine::without_profile(&host, profile);
    fail_if(env.store.profile_dir(profile).root().exists())?;
    fail_if(!machine.undefine()?)?;
    Ok(format!("removed the domain {}", machine.names.domain))
}

fn remove_volumes(env: &Env<'_>, uri: &str) -> Result<String> {
    let _lock = shared(env.store)?;
    let host = Host::open(env, uri)?;
    let gone = owned::unneeded_volumes(&host)?;
    for volume in &gone {
        host.delete_volume(volume)?;
    }
    Ok(format!("removed the volumes {}", gone.join(", ")))
}

fn shared(store: &Store) -> Result<Lock> {
    store.try_lock_shared()?.ok_or_else(busy)
}

fn own(store: &Store, profile: &ProfileName) -> Result<Lock> {
    store.try_lock_profile(profile)?.ok_or_else(busy)
}

fn busy() -> Error {
    Error::state("left alone: another kubby process is using it")
}

/// Refuses a repair of something that has changed since the diagnosis.
fn fail_if(changed: bool) -> Result<()> {
    if changed {
        let what = "left alone: it has changed since the diagnosis";
        return Err(Error::state(what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(&dir.path().join("home"), &dir.path().join("cache"));
        (dir, store)
    }

    fn apply(repair: &Repair, store: &Store) -> Result<String> {
        repair.apply(&Env {
            store,
            backend: &crate::cluster::env::Real,
            progress: &crate::progress::Silent,
        })
    }

    #[test]
    fn what_another_kubby_uses_is_left_alone() {
        let (dir, store) = home();
        let name: ProfileName = "dev".parse().unwrap();
        let folder = store.profile_dir(&name);
        fsutil::create_private_dir(folder.root()).unwrap();
        let repair = Repair::RemoveProfileFolder {
            profile: name.clone(),
        };
        let held = store.lock_profile(&name, |_| {}).unwrap();
        let e = apply(&repair, &store).unwrap_err();
        assert!(e.message().contains("another kubby"), "{e}");
        assert!(folder.root().exists());
        drop(held);
        apply(&repair, &store).unwrap();
        assert!(!folder.root().exists());

        let left = dir.path().join("left");
        let lock = dir.path().join("left.lock");
        fs::write(&left, "").unwrap();
        let repair = Repair::Remove(vec![(left.clone(), Guard::File(lock.clone()))]);
        let held = Lock::try_acquire(&lock).unwrap();
        apply(&repair, &store).unwrap_err();
        assert!(left.exists());
        drop(held);
        apply(&repair, &store).unwrap();
        assert!(!left.exists());
    }

    #[test]
    fn a_profile_that_was_written_meanwhile_stays() {
        let (_dir, store) = home();
        let name: ProfileName = "dev".parse().unwrap();
        let folder = store.profile_dir(&name);
        fsutil::create_private_dir(folder.root()).unwrap();
        fs::write(folder.profile(), "version = 1\n").unwrap();
        let repair = Repair::RemoveProfileFolder { profile: name };
        let e = apply(&repair, &store).unwrap_err();
        assert!(e.message().contains("changed"), "{e}");
        assert!(folder.profile().exists());
    }

    #[test]
    fn modes_are_set_and_reported() {
        let (dir, store) = home();
        let file = dir.path().join("a.key");
        fs::write(&file, "").unwrap();
        let repair = Repair::Restrict(vec![(file.clone(), 0o600)]);
        let said = apply(&repair, &store).unwrap();
        assert!(said.starts_with("chmod 0600 /"), "{said}");
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
