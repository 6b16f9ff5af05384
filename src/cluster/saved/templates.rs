//! `kubby template`: the warm templates of this home.

use std::collections::BTreeSet;

use crate::cluster::env::Env;
use crate::cluster::machine::host::Host;
use crate::cluster::machine::names::Names;
use crate::cluster::saved::state::{self, Saved, SavedDir};
use crate::cluster::saved::{garbage, support};
use crate::error::{Error, Result};
use crate::fsutil;
use crate::name::ProfileName;
use crate::profile::Profile;
use crate::role::Role;
use crate::store::Store;

/// One row of `kubby template list`.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    /// Its key: a digest of everything that went into it.
    pub key: String,
    /// The time at which it was saved, seconds since 1970; absent for one that is damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<i64>,
    /// Kubernetes version with `v`.
    pub kubernetes_version: String,
    /// The roles of its nodes, the first node's first.
    pub nodes: Vec<Role>,
    /// Virtual CPUs of the first node.
    pub cpus: u32,
    /// Memory of the first node in MiB.
    #[serde(rename = "memoryMiB")]
    pub memory_mib: u64,
    /// The add-ons in it.
    pub addons: Vec<String>,
    /// The bytes that it takes on the disk: memory, devices, and the disks' layers.
    pub bytes: u64,
    /// The clusters that run on its memory now.
    pub used_by: Vec<ProfileName>,
    /// The reason why no start can use it; absent when one can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A template's folder with what is in it, as far as it can be read.
struct Found {
    key: String,
    dir: SavedDir,
    saved: Result<Option<Vec<Saved>>>,
}

fn all(store: &Store) -> Vec<Found> {
    let mut found: Vec<Found> = garbage::saved_in(&store.templates_dir())
        .filter_map(|dir| {
            Some(Found {
                key: dir.root.file_name()?.to_str()?.to_owned(),
                saved: dir.load_all(),
                dir,
            })
        })
        .collect();
    found.sort_by(|a, b| a.key.cmp(&b.key));
    found
}

impl Found {
    /// Returns why no start can use it.
    fn problem(&self, host: &Host<'_>) -> Result<Option<String>> {
        let parts = match &self.saved {
            Ok(Some(parts)) => parts,
            Ok(None) => return Ok(Some("it is not complete".into())),
            Err(e) => return Ok(Some(e.message().to_owned())),
        };
        let saved = &parts[0];
        let certificates = || match saved.profile.first().role {
            Role::ControlPlane => support::check_certificates(&self.dir.files()),
            Role::Worker => Ok(()),
        };
        let problem = support::check_all(parts, host.target(), &host.info()?)
            .and_then(|()| certificates())
            .err();
        let other = saved.profile.kubby != env!("CARGO_PKG_VERSION");
        Ok(problem
            .map(|e| e.message().to_owned())
            .or_else(|| other.then(|| format!("kubby {} made it", saved.profile.kubby))))
    }

    /// Returns the connection of the libvirt that has its files.
    fn uri(&self, env: &Env<'_>) -> String {
        match &self.saved {
            Ok(Some(parts)) => parts[0].profile.connect.clone(),
            _ => env.backend.default_uri(),
        }
    }
}

/// Returns the clusters whose machines run on a saved memory.
fn users(host: &Host<'_>, id: &str) -> Result<Vec<ProfileName>> {
    let libvirt = host.libvirt();
    let mut users = Vec::new();
    for name in host.store().profile_names()? {
        let domain = Names::of(&name).domain;
        let runs = libvirt
            .find(&domain)?
            .is_some_and(|domain| domain.state.is_active());
        let mapped = libvirt.mapped_memory(&domain)?;
        let file = mapped.as_deref().and_then(|p| p.file_name()?.to_str());
        if runs && file.and_then(state::id_of) == Some(id) {
            users.push(name);
        }
    }
    Ok(users)
}

/// Lists all templates of this home, each with whether it can be used.
///
/// # Errors
/// [`Kind::Hypervisor`](crate::error::Kind::Hypervisor) when libvirt cannot be asked.
pub(crate) fn list(env: &Env<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for found in all(env.store) {
        let host = Host::open(env, &found.uri(env))?;
        let problem = found.problem(&host)?;
        let parts = found.saved.ok().flatten().unwrap_or_default();
        let saved = parts.first();
        let profile = saved.map(|saved| &saved.profile);
        let machine = profile.map(|p| &p.first().machine);
        let mut bytes = state::memory_of(&parts).unwrap_or_default();
        let mut used_by = Vec::new();
        if let Some(saved) = saved {
            let volumes = host.volumes()?;
            let is_disk = |name: &String| parts.iter().any(|saved| saved.disk == *name);
            let disks = volumes.all().iter().filter(|v| is_disk(&v.name));
            bytes += disks.map(|v| v.allocation).sum::<u64>();
            used_by = users(&host, &saved.id)?;
        }
        let nodes = profile.map(|p| p.nodes.iter().map(|node| node.role).collect());
        rows.push(Row {
            key: found.key,
            created: saved.map(|saved| saved.created),
            nodes: nodes.unwrap_or_default(),
            kubernetes_version: profile
                .map(|p| p.spec.kubernetes_version.clone())
                .unwrap_or_default(),
            cpus: machine.map_or(0, |m| m.cpus),
            memory_mib: machine.map_or(0, |m| m.memory_mib),
            addons: profile.map(|p| p.spec.addons.clone()).unwrap_or_default(),
            bytes,
            used_by,
            problem,
        });
    }
    Ok(rows)
}

/// Returns the one template whose key begins so.
fn meant<'a>(all: &'a [Found], key: &str) -> Result<&'a Found> {
    let fitting: Vec<&Found> = all.iter().filter(|f| f.key.starts_with(key)).collect();
    let message = match fitting.as_slice() {
        [one] => return Ok(one),
        [] => format!("there is no template `{key}`"),
        _ => format!("`{key}` is the beginning of several templates' keys"),
    };
    Err(Error::usage(message).with_hint("kubby template list"))
}

/// Returns the key and folder of the template whose key begins so or, without a key, of the only one.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) where there is none, or more than one.
pub(crate) fn choose(store: &Store, key: Option<&str>) -> Result<(String, SavedDir)> {
    let all = all(store);
    let found = match (key, all.as_slice()) {
        (Some(key), all) => meant(all, key)?,
        (None, [one]) => one,
        (None, []) => {
            return Err(Error::usage("there is no template").with_hint("kubby start makes one"));
        }
        (None, _) => {
            return Err(Error::usage("there are several templates; say which")
                .with_hint("kubby template list"));
        }
    };
    Ok((found.key.clone(), found.dir.clone()))
}

/// Deletes templates by their keys, or the beginnings of keys. A running cluster keeps the memory that
/// it has mapped.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) for a key that names none or more than one; nothing is deleted then.
pub(crate) fn delete(env: &Env<'_>, keys: &[String]) -> Result<Vec<String>> {
    let all = all(env.store);
    let chosen: Result<Vec<&Found>> = keys.iter().map(|key| meant(&all, key)).collect();
    let mut chosen = chosen?;
    chosen.dedup_by_key(|found| found.key.clone());
    remove(env, &chosen)
}

/// Deletes the templates that no start can use any more, or all of them.
///
/// # Errors
/// [`Kind::Hypervisor`](crate::error::Kind::Hypervisor) when libvirt cannot be asked or refuses.
pub(crate) fn prune(env: &Env<'_>, every: bool) -> Result<Vec<String>> {
    let all = all(env.store);
    let mut chosen = Vec::new();
    for found in &all {
        if every || found.problem(&Host::open(env, &found.uri(env))?)?.is_some() {
            chosen.push(found);
        }
    }
    remove(env, &chosen)
}

fn remove(env: &Env<'_>, chosen: &[&Found]) -> Result<Vec<String>> {
    let store = env.store;
    let step = env.progress.step("Delete warm templates");
    // Also where nothing was chosen: a cluster may not need its mapped memory any more.
    let mut uris: BTreeSet<String> = chosen.iter().map(|found| found.uri(env)).collect();
    for name in store.profile_names()? {
        let profile = Profile::load(&store.profile_dir(&name)).ok().flatten();
        uris.extend(profile.map(|profile| profile.connect));
    }
    let hosts: Result<Vec<Host<'_>>> = uris.iter().map(|uri| Host::open(env, uri)).collect();
    let mut hosts = hosts?;
    if hosts.is_empty() {
        // A killed process may have left the volumes of templates that are gone.
        hosts.extend(Host::open(env, &env.backend.default_uri()).ok());
    }
    let shared = env.lock_shared()?;
    let mut owned = Vec::new();
    for host in hosts {
        // A refusal has to come before the first folder is removed.
        if host.has_pool_to_empty()? {
            owned.push(host);
        }
    }
    for found in chosen {
        fsutil::remove_all(&found.dir.root)?;
    }
    for host in owned {
        garbage::sweep(&host, None)?;
        host.remove_pool_if_empty()?;
    }
    drop(shared);
    // The folder of all templates is removed with the last of them.
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
