//! `kubby addon`: listing, enabling and disabling the add-ons of a cluster.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::addon::{self, Addon, Folder, Rollouts};
use crate::cluster::Cluster;
use crate::cluster::addons::{self, apply, import, read};
use crate::cluster::env::Env;
use crate::cluster::operations::running::{self, Running};
use crate::error::{Error, Result};
use crate::image;
use crate::interrupt;
use crate::name::ProfileName;
use crate::profile::Profile;
use crate::store::Store;

/// The limit for an add-on to become ready, with hardware virtualisation.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// The limit for connecting to the node, which runs.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// The interval at which a rollout is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// One row of `kubby addon list`.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    /// Its name.
    pub name: String,
    /// Whether `kubby start` applies it.
    pub enabled: bool,
    /// Whether new clusters have it.
    pub default: bool,
    /// One line about it.
    pub description: String,
    /// The user's folder that it was read from; absent for one of kubby's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
}

/// Lists all add-ons that a profile can have or has; without a profile those of kubby.
///
/// # Errors
/// [`Kind::State`](crate::error::Kind::State) when the profile or a kept add-on is damaged.
pub(crate) fn list(store: &Store, name: &ProfileName) -> Result<Vec<Row>> {
    let dir = store.profile_dir(name);
    let enabled = match Profile::load(&dir)? {
        Some(profile) => profile.spec.addons,
        None => addon::default_names(),
    };
    let mut all = addon::builtin().to_vec();
    for name in &enabled {
        if let Some(own) = addon::kept(&dir, name)? {
            all.push(own);
        }
    }
    Ok(all
        .into_iter()
        .map(|addon| Row {
            enabled: enabled.contains(&addon.name),
            default: addon.default,
            description: addon.description,
            folder: addon.folder,
            name: addon.name,
        })
        .collect())
}

/// Opens a running cluster whose API answers.
fn open<'a>(env: &Env<'a>, name: &ProfileName) -> Result<Running<'a>> {
    let running = Running::open(env, name, "")?;
    running.api.ready().map_err(|e| {
        e.with_hint(format!(
            "kubby start{} repairs what is missing",
            name.flag()
        ))
    })?;
    Ok(running)
}

impl Running<'_> {
    fn deadline(&self) -> Instant {
        Instant::now() + self.cluster.deadline(READY_LIMIT)
    }

    fn enable(&mut self, folder: &Folder, force: bool) -> Result<()> {
        let addon = &folder.addon;
        let progress = self.env.progress;
        let step = progress.step(&format!("Enable the add-on {}", addon.name));
        if !addon.images.is_empty() {
            step.detail("importing its images");
            let limit = self.cluster.deadline(CONNECT_LIMIT);
            for node in self.cluster.nodes()? {
                let mut session = self.env.backend.connect(&node.target, limit)?;
                import(session.as_mut(), &[addon])?;
            }
        }
        for node in self.cluster.nodes()? {
            for archive in &folder.archives {
                image::load(&node, &archive.to_string_lossy(), &[], progress)?;
            }
        }
        step.detail("applying its manifests");
        let began = Instant::now();
        let deadline = self.deadline();
        let flag = self.cluster.flag();
        apply(&self.api, &[addon], force, deadline, &flag, progress)?;
        // It is in the cluster: from here on `start` and `disable` know of it.
        if addon.folder.is_some() {
            addon::keep(&self.cluster.dir, addon)?;
        }
        let enabled = &mut self.cluster.profile.spec.addons;
        if !enabled.contains(&addon.name) {
            enabled.push(addon.name.clone());
            self.cluster.save()?;
        }
        let mut rollouts = Rollouts::of([addon]);
        loop {
            let last = match rollouts.look(&self.api) {
                Ok(true) => break,
                Ok(false) => None,
                Err(e) => Some(e),
            };
            step.detail(&rollouts.summary());
            if Instant::now() > deadline {
                let error = rollouts.overdue(&self.api, began.elapsed().as_secs());
                return Err(last.unwrap_or(error));
            }
            interrupt::sleep(LOOK_EVERY)?;
        }
        step.done(format!("{} objects", addon.objects.len()));
        Ok(())
    }

    fn disable(&mut self, name: &str) -> Result<bool> {
        let step = self
            .env
            .progress
            .step(&format!("Disable the add-on {name}"));
        let gone = addon::remove(&self.api, name, self.deadline())?;
        let enabled = &mut self.cluster.profile.spec.addons;
        let before = enabled.len();
        enabled.retain(|enabled| enabled != name);
        let was_enabled = enabled.len() < before;
        if was_enabled {
            self.cluster.save()?;
        }
        addon::forget(&self.cluster.dir, name)?;
        if gone.is_empty() && !was_enabled {
            step.skipped("it is not enabled");
            return Ok(false);
        }
        let nodes = || running::nodes(&self.host, &self.cluster);
        addons::tidy(self.env.backend, nodes, name, self.env.progress)?;
        step.done(format!("{} objects removed", gone.len()));
        Ok(true)
    }
}

/// Enables add-ons in a running cluster, waits until they are ready, and makes every `start` apply
/// them again.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) for a name or folder that is not an add-on, before anything is changed;
/// [`Kind::State`](crate::error::Kind::State) if the cluster is not running; [`Kind::Unhealthy`](crate::error::Kind::Unhealthy) if one is not ready in time.
pub(crate) fn enable(
    env: &Env<'_>,
    name: &ProfileName,
    wanted: &[String],
    force: bool,
) -> Result<Vec<String>> {
    let (cluster, _lock) = Cluster::open_locked(env, name)?;
    let kubectl = &cluster.profile.assets.kubectl;
    let folders = wanted.iter().map(|what| read(what, kubectl));
    let folders = folders.collect::<Result<Vec<Folder>>>()?;
    let mut running = open(env, name)?;
    for folder in &folders {
        running.enable(folder, force)?;
    }
    Ok(folders.into_iter().map(|f| f.addon.name).collect())
}

/// Disables add-ons in a running cluster; returns those that were enabled.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) for a name that no add-on has, before anything is changed; [`Kind::State`](crate::error::Kind::State) if the
/// cluster is not running; [`Kind::Unhealthy`](crate::error::Kind::Unhealthy) if an object is not removed in time.
pub(crate) fn disable(env: &Env<'_>, name: &ProfileName, wanted: &[String]) -> Result<Vec<String>> {
    let (_, _lock) = Cluster::open_locked(env, name)?;
    let known = list(env.store, name)?;
    let mut running = open(env, name)?;
    let applied = addon::applied_names(&running.api)?;
    for what in wanted {
        if !known.iter().any(|row| row.name == *what) && !applied.contains(what) {
            let names: Vec<&str> = known.iter().map(|row| row.name.as_str()).collect();
            return Err(Error::usage(format!(
                "there is no add-on named `{what}`; there are {}",
                names.join(", ")
            )));
        }
    }
    let mut gone = Vec::new();
    for what in wanted {
        if running.disable(what)? {
            gone.push(what.clone());
        }
    }
    Ok(gone)
}

/// Returns an add-on as it would be applied: one of the profile, of kubby, or of a folder.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) for a name or folder that is none.
pub(crate) fn show(store: &Store, name: &ProfileName, what: &str) -> Result<Addon> {
    let dir = store.profile_dir(name);
    if !addon::is_folder(what)
        && let Some(own) = addon::kept(&dir, what)?
    {
        return Ok(own);
    }
    let kubectl = Profile::load(&dir)?
        .map(|p| p.assets.kubectl)
        .unwrap_or_default();
    Ok(read(what, &kubectl)?.addon)
}
