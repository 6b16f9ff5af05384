//! The warm templates of this home: what there is, and what may go.

use std::collections::BTreeSet;

use crate::cluster::machine::resources::Names;
use crate::cluster::saved::garbage;
use crate::cluster::saved::load;
use crate::cluster::saved::state::{Saved, SavedDir};
use crate::error::{Error, Kind, Result};
use crate::fsutil;
use crate::hypervisor::{self, Hypervisor, Libvirt, State};
use crate::profile::{Profile, ProfileName};
use crate::progress::Progress;
use crate::store::Store;

/// One row of `kubby template list`.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Its key: a digest of everything that went into it.
    pub key: String,
    /// When it was saved, seconds since 1970; absent for one that is damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<i64>,
    /// Kubernetes version with `v`.
    pub kubernetes_version: String,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory of the machine in MiB.
    #[serde(rename = "memoryMiB")]
    pub memory_mib: u64,
    /// The add-ons in it.
    pub addons: Vec<String>,
    /// The bytes that it takes on the disk: memory, devices, and the disk's layer.
    pub bytes: u64,
    /// The clusters that run on its memory now.
    pub used_by: Vec<ProfileName>,
    /// Why no start can use it; absent when one can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A template's folder with what is in it, as far as it can be read.
struct Found {
    key: String,
    dir: SavedDir,
    saved: Result<Option<Saved>>,
}

fn all(store: &Store) -> Vec<Found> {
    let entries = std::fs::read_dir(store.templates_dir());
    let mut found: Vec<Found> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            entry
                .path()
                .extension()
                .is_none_or(|e| e != garbage::UNFINISHED)
        })
        .filter_map(|entry| {
            let dir = SavedDir::at(entry.path());
            Some(Found {
                key: entry.file_name().to_str()?.to_owned(),
                saved: dir.load(),
                dir,
            })
        })
        .collect();
    found.sort_by(|a, b| a.key.cmp(&b.key));
    found
}

impl Found {
    /// Why no start can use it.
    fn problem(&self, hypervisor: &dyn Hypervisor, store: &Store) -> Result<Option<String>> {
        let saved = match &self.saved {
            Ok(Some(saved)) => saved,
            Ok(None) => return Ok(Some("it is not complete".into())),
            Err(e) => return Ok(Some(e.message().to_owned())),
        };
        let names = Names::new(store, &saved.profile);
        let problem = load::check(saved, &names, &hypervisor.host()?)
            .and_then(|()| load::check_certificates(&self.dir.files()))
            .err();
        let other = saved.profile.kubby != env!("CARGO_PKG_VERSION");
        Ok(problem
            .map(|e| e.message().to_owned())
            .or_else(|| other.then(|| format!("kubby {} made it", saved.profile.kubby))))
    }

    /// Where libvirt is that has its files.
    fn uri(&self) -> String {
        match &self.saved {
            Ok(Some(saved)) => saved.profile.connect.clone(),
            _ => hypervisor::default_uri(None),
        }
    }
}

/// The clusters whose machines run on a saved memory.
fn users(store: &Store, hypervisor: &dyn Hypervisor, id: &str) -> Result<Vec<ProfileName>> {
    let mut users = Vec::new();
    for name in store.profile_names()? {
        let domain = name.resource_name();
        let runs = hypervisor
            .find(&domain)?
            .is_some_and(|d| !matches!(d.state, State::ShutOff | State::Crashed));
        let mapped = hypervisor.mapped_memory(&domain)?;
        let file = mapped.as_deref().and_then(|p| p.file_name()?.to_str());
        if runs && file.and_then(crate::cluster::saved::state::id_of) == Some(id) {
            users.push(name);
        }
    }
    Ok(users)
}

/// All templates of this home, each looked at.
///
/// # Errors
/// [`Kind::Hypervisor`] when libvirt cannot be asked.
pub fn list(store: &Store) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for found in all(store) {
        let hypervisor = Libvirt::open(&found.uri())?;
        let problem = found.problem(&hypervisor, store)?;
        let saved = found.saved.ok().flatten();
        let profile = saved.as_ref().map(|saved| &saved.profile);
        let mut bytes = 0;
        let mut used_by = Vec::new();
        if let Some(saved) = &saved {
            let names = Names::new(store, &saved.profile);
            let volumes = hypervisor.list_volumes(&names.pool)?;
            let disk = volumes.iter().find(|v| v.name == saved.disk);
            bytes = disk.map_or(0, |v| v.allocation)
                + saved.memory.as_ref().map_or(0, |memory| memory.allocated);
            used_by = users(store, &hypervisor, &saved.id)?;
        }
        rows.push(Row {
            key: found.key,
            created: saved.as_ref().map(|saved| saved.created),
            kubernetes_version: profile
                .map(|p| p.kubernetes_version.clone())
                .unwrap_or_default(),
            cpus: profile.map_or(0, |p| p.cpus),
            memory_mib: profile.map_or(0, |p| p.memory_mib),
            addons: profile.map(|p| p.addons.clone()).unwrap_or_default(),
            bytes,
            used_by,
            problem,
        });
    }
    Ok(rows)
}

/// The one template with a key that begins so.
fn meant<'a>(all: &'a [Found], key: &str) -> Result<&'a Found> {
    let fitting: Vec<&Found> = all.iter().filter(|f| f.key.starts_with(key)).collect();
    let message = match fitting.as_slice() {
        [one] => return Ok(one),
        [] => format!("there is no template `{key}`"),
        _ => format!("`{key}` is the beginning of several templates' keys"),
    };
    Err(Error::new(Kind::Usage, message).with_hint("kubby template list"))
}

/// The template with a key that begins so or, without a key, the only one: its key and folder.
///
/// # Errors
/// [`Kind::Usage`] where there is none, or more than one.
pub fn choose(store: &Store, key: Option<&str>) -> Result<(String, SavedDir)> {
    let all = all(store);
    let found = match (key, all.as_slice()) {
        (Some(key), all) => meant(all, key)?,
        (None, [one]) => one,
        (None, []) => {
            return Err(
                Error::new(Kind::Usage, "there is no template").with_hint("kubby start makes one")
            );
        }
        (None, _) => {
            return Err(
                Error::new(Kind::Usage, "there are several templates; say which")
                    .with_hint("kubby template list"),
            );
        }
    };
    Ok((found.key.clone(), found.dir.clone()))
}

/// Removes templates by their keys, or the beginnings of keys. What running clusters have mapped
/// goes with them.
///
/// # Errors
/// [`Kind::Usage`] for a key that names none or more than one; nothing is removed then.
pub fn delete(store: &Store, keys: &[String], progress: &dyn Progress) -> Result<Vec<String>> {
    let all = all(store);
    let chosen: Result<Vec<&Found>> = keys.iter().map(|key| meant(&all, key)).collect();
    let mut chosen = chosen?;
    chosen.dedup_by_key(|found| found.key.clone());
    remove(store, &chosen, progress)
}

/// Removes the templates that no start can use any more, or all of them.
///
/// # Errors
/// [`Kind::Hypervisor`] when libvirt cannot be asked or refuses.
pub fn prune(store: &Store, every: bool, progress: &dyn Progress) -> Result<Vec<String>> {
    let all = all(store);
    let mut chosen = Vec::new();
    for found in &all {
        let hypervisor = Libvirt::open(&found.uri())?;
        if every || found.problem(&hypervisor, store)?.is_some() {
            chosen.push(found);
        }
    }
    remove(store, &chosen, progress)
}

fn remove(store: &Store, chosen: &[&Found], progress: &dyn Progress) -> Result<Vec<String>> {
    let step = progress.step("Delete warm templates");
    let shared = store.lock_shared(|| {})?;
    for found in chosen {
        fsutil::remove_all(&found.dir.root)?;
    }
    // Also where nothing was chosen: what a cluster had mapped may be needed no more by now.
    let mut uris: BTreeSet<String> = chosen.iter().map(|found| found.uri()).collect();
    for name in store.profile_names()? {
        let profile = Profile::load(&store.profile_dir(&name)).ok().flatten();
        uris.extend(profile.map(|profile| profile.connect));
    }
    for uri in uris {
        let hypervisor = Libvirt::open(&uri)?;
        let pool = store.pool_name();
        if hypervisor.has_pool(&pool)? {
            // One that is not started shows no volumes, and would go with all that is in it.
            hypervisor.ensure_pool(&pool, &store.pool_target(&uri))?;
            garbage::sweep(&hypervisor, store, &pool, None)?;
            hypervisor.remove_pool(&pool)?;
        }
    }
    drop(shared);
    // The folder of all templates goes with the last of them.
    let _ = std::fs::remove_dir(store.templates_dir());
    store.remove_if_empty()?;
    let keys: Vec<String> = chosen.iter().map(|found| found.key.clone()).collect();
    if keys.is_empty() {
        step.skipped("there is none to delete");
    } else {
        step.done(keys.join(", "));
    }
    Ok(keys)
}
