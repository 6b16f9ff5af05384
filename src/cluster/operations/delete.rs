//! `kubby delete`: removing a cluster with all that belongs to it, whatever state it is in.

use crate::cluster::context;
use crate::cluster::env::Env;
use crate::cluster::machine::Machine;
use crate::cluster::machine::host::Host;
use crate::cluster::saved::garbage;
use crate::endpoint::Endpoint;
use crate::error::{Kind, Result};
use crate::fsutil::{self, Lock};
use crate::hypervisor::Foreign;
use crate::kubeconfig;
use crate::name::ProfileName;
use crate::profile::Profile;

/// Deletes a cluster. Returns whether there was anything of it.
///
/// # Errors
/// [`Kind::State`] if this home has no such cluster and another home has;
/// [`Kind::Hypervisor`] when libvirt cannot be asked or refuses: what was not removed yet is still
/// known, so that `delete` can be repeated.
pub(crate) fn delete(env: &Env<'_>, name: &ProfileName) -> Result<bool> {
    let lock = env.lock(name)?;
    let deleted = delete_locked(env, name, lock);
    if deleted.is_err() {
        env.store.remove_if_empty()?;
    }
    deleted
}

/// Deletes a cluster under a lock that the caller holds already.
///
/// # Errors
/// As [`delete`].
pub(crate) fn delete_locked(env: &Env<'_>, name: &ProfileName, lock: Lock) -> Result<bool> {
    let (store, progress) = (env.store, env.progress);
    let dir = store.profile_dir(name);
    let existed = dir.root().exists();
    // A file that does not parse must not keep the cluster: the defaults hold in its place.
    let profile = Profile::load(&dir).unwrap_or_else(|e| {
        progress.warn(e.message());
        None
    });
    let recorded = profile.as_ref().map(|p| p.connect.clone());
    let uri = recorded.unwrap_or_else(|| env.backend.default_uri());
    let step = progress.step(&format!("Delete the cluster `{name}`"));
    let machine = match Host::open(env, &uri) {
        Ok(host) => remove_machines(env, &host, name, profile.as_ref(), existed)?,
        // Without a profile there is no sign that libvirt ever had anything of it.
        Err(_) if !existed => false,
        Err(e) => {
            return Err(e.with_hint(
                "the virtual machine can only be removed through libvirt; nothing was deleted yet",
            ));
        }
    };
    Endpoint::of(&dir).stop()?;
    let context = remove_context(env, name, profile.as_ref())?;
    fsutil::remove_all(dir.root())?;
    drop(lock);
    store.remove_if_empty()?;
    let any = existed || machine || context;
    if any {
        step.done("");
    } else {
        step.skipped(format!(
            "there is no cluster named `{name}` in {}",
            store.home().display()
        ));
    }
    Ok(any)
}

/// Removes the domains, the machines' files and the volumes that nothing else needs.
fn remove_machines(
    env: &Env<'_>,
    host: &Host<'_>,
    name: &ProfileName,
    profile: Option<&Profile>,
    existed: bool,
) -> Result<bool> {
    // Where the profile's file is lost there is no UUID to compare with, and the mark alone counts.
    let known = profile.and_then(|profile| Machine::all(host, profile).ok());
    let machines = match known {
        Some(machines) => machines,
        None => Machine::all_without_profile(host, name)?,
    };
    let mut any = false;
    let mut own = Vec::new();
    for machine in &machines {
        match machine.foreign_owner()? {
            None => {
                any |= machine.undefine()?;
                own.push(machine);
            }
            Some(why @ Foreign::Home(_)) if !existed => {
                // The user means that other home's cluster, and this terminal cannot touch it.
                return Err(machine.refuse(&why));
            }
            Some(why) => {
                env.progress.warn(&format!(
                    "the domain `{}` stays, because it is not this cluster's: {why}",
                    machine.names.domain
                ));
                // Its files are also those of an earlier cluster's machine with the same name.
                if !matches!(why, Foreign::Earlier(_)) {
                    own.push(machine);
                }
            }
        }
    }
    let _shared = env.lock_shared()?;
    let has_pool = match host.has_pool_to_empty() {
        Err(e) if e.kind() == Kind::State => {
            let why = e.message();
            env.progress.warn(&format!("{why}; it stays as it is"));
            false
        }
        has_pool => has_pool?,
    };
    if has_pool {
        for machine in own {
            any |= machine.remove_own_files()?;
        }
        any |= garbage::sweep(host, Some(name))?;
        host.remove_pool_if_empty()?;
    }
    Ok(any)
}

/// Removes the context from the user's kubeconfig; returns whether it was there.
fn remove_context(env: &Env<'_>, name: &ProfileName, profile: Option<&Profile>) -> Result<bool> {
    let file = match profile {
        Some(profile) => Ok(profile.kubeconfig.clone()),
        None => env.backend.kubeconfig(),
    };
    let Ok(file) = file else { return Ok(false) };
    let context = name.resource_name();
    match kubeconfig::uninstall(&file, &context, &context::owner(env.store, name)) {
        // The file is the user's: one that cannot be edited does not hold up the rest.
        Err(e) if e.kind() == Kind::Kubeconfig => {
            env.progress.warn(&format!(
                "the context `{context}` could not be removed: {}",
                e.message()
            ));
            Ok(false)
        }
        removed => removed,
    }
}

/// Deletes all cached assets. Clusters that exist keep working: their volumes are in libvirt's pool.
///
/// # Errors
/// [`Kind::Internal`] when a file cannot be removed.
pub(crate) fn purge_cache(env: &Env<'_>) -> Result<()> {
    let step = env.progress.step("Delete cached images and components");
    // Folder by folder: KUBBY_CACHE may be a folder that other programs use too.
    for folder in ["node-images", "components"] {
        fsutil::remove_all(&env.store.cache().join(folder))?;
    }
    let _ = std::fs::remove_dir(env.store.cache());
    step.done("");
    Ok(())
}
