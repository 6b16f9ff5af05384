//! Removing a cluster with all that belongs to it, whatever state it is in.

use crate::cluster::machine::preflight;
use crate::cluster::machine::resources::{self, Names};
use crate::error::{Kind, Result};
use crate::fsutil::{self, Lock};
use crate::hypervisor::{self, Hypervisor, Libvirt};
use crate::kubeconfig;
use crate::profile::{Profile, ProfileName};
use crate::progress::Progress;
use crate::store::Store;

/// Deletes a cluster. Returns whether there was anything to delete.
///
/// # Errors
/// [`Kind::Hypervisor`] when libvirt cannot be asked or refuses; what was not removed yet stays
/// known, so that `delete` can be run again.
pub fn delete(store: &Store, name: &ProfileName, progress: &dyn Progress) -> Result<bool> {
    let lock = crate::cluster::lock(store, name, progress)?;
    delete_locked(store, name, lock, progress)
}

/// As [`delete`], under a lock that is held already.
pub(crate) fn delete_locked(
    store: &Store,
    name: &ProfileName,
    lock: Lock,
    progress: &dyn Progress,
) -> Result<bool> {
    let dir = store.profile_dir(name);
    let existed = dir.root().exists();
    // A file that does not parse must not keep the cluster alive: what it would have told is
    // what every profile has by default.
    let profile = match Profile::load(&dir) {
        Ok(profile) => profile,
        Err(e) => {
            progress.warn(e.message());
            None
        }
    };
    let uri = profile
        .as_ref()
        .map(|p| p.connect.clone())
        .unwrap_or_else(|| hypervisor::default_uri(None));
    let names = Names::of(store, name, &uri);
    let step = progress.step(&format!("Delete the cluster `{name}`"));
    let machine = match Libvirt::open(&uri) {
        Ok(hypervisor) => remove_machine(&hypervisor, store, &names, name, progress)?,
        // Without a profile there is no sign that libvirt ever had anything of it.
        Err(_) if !existed => false,
        Err(e) => {
            return Err(e.with_hint(
                "the virtual machine can only be removed through libvirt; nothing was deleted yet",
            ));
        }
    };
    let owner = preflight::kubeconfig_owner(store, name);
    let files = match &profile {
        Some(profile) => vec![profile.kubeconfig.clone()],
        None => kubeconfig::default_path().into_iter().collect(),
    };
    let mut context = false;
    for file in files {
        match kubeconfig::uninstall(&file, &names.domain, &owner) {
            Ok(removed) => context |= removed,
            // The file is the user's: one that cannot be edited does not hold up the rest.
            Err(e) if e.kind() == Kind::Kubeconfig => progress.warn(&format!(
                "the context `{}` could not be removed: {}",
                names.domain,
                e.message()
            )),
            Err(e) => return Err(e),
        }
    }
    fsutil::remove_all(dir.root())?;
    drop(lock);
    store.remove_if_empty()?;
    let any = existed || machine || context;
    if any {
        step.done("");
    } else {
        step.skipped(format!("there is no cluster named `{name}`"));
    }
    Ok(any)
}

fn remove_machine(
    hypervisor: &dyn Hypervisor,
    store: &Store,
    names: &Names,
    name: &ProfileName,
    progress: &dyn Progress,
) -> Result<bool> {
    let mut any = false;
    if let Some(domain) = hypervisor.find(&names.domain)? {
        // By its mark alone: a profile whose file is lost has no UUID to compare any more.
        match preflight::foreign(&domain, store, name) {
            None => {
                hypervisor.destroy(&names.domain)?;
                hypervisor.undefine(&names.domain)?;
                any = true;
            }
            Some(why) => progress.warn(&format!(
                "the domain `{}` stays, since it is not this profile's: {why}",
                names.domain
            )),
        }
    }
    let _shared = store.lock_shared(|| {})?;
    any |= resources::remove_volumes(hypervisor, store, names, name)?;
    Ok(any)
}

/// Deletes all cached assets. Clusters that exist keep working: their volumes are libvirt's.
///
/// # Errors
/// [`Kind::Internal`] when a file cannot be removed.
pub fn purge_cache(store: &Store, progress: &dyn Progress) -> Result<()> {
    let step = progress.step("Delete cached images and components");
    // Folder by folder: somebody may have pointed KUBBY_CACHE at a place that others use too.
    for folder in ["node-images", "components"] {
        fsutil::remove_all(&store.cache().join(folder))?;
    }
    let _ = std::fs::remove_dir(store.cache());
    step.done("");
    Ok(())
}
