//! The add-ons of a cluster: which it has, and bringing them in and out.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::addon::{self, Addon, Folder, Rollouts};
use crate::api::ApiClient;
use crate::assets::components;
use crate::cluster::Access;
use crate::cluster::StartOptions;
use crate::error::{Error, Kind, Result};
use crate::hypervisor::{Hypervisor, Libvirt};
use crate::image;
use crate::interrupt;
use crate::profile::{Profile, ProfileName};
use crate::progress::Progress;
use crate::provision;
use crate::remote::{Remote, Ssh};
use crate::store::{ProfileDir, Store};
use crate::trace;

/// How long an add-on may take to be at work, with hardware virtualisation.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// How long connecting may take: the node runs.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// How often a rollout is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// One row of `kubby addon list`.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
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

/// All add-ons that a profile can have or has. Without a profile: those of kubby.
///
/// # Errors
/// [`Kind::State`] when the profile or a kept add-on is damaged.
pub fn list(store: &Store, name: &ProfileName) -> Result<Vec<Row>> {
    let dir = store.profile_dir(name);
    let enabled = match Profile::load(&dir)? {
        Some(profile) => profile.addons,
        None => addon::default_names(),
    };
    let mut all = addon::builtin()?;
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

/// The add-ons of a profile, in the order in which they were enabled.
///
/// # Errors
/// [`Kind::State`] when one cannot be read any more.
pub(crate) fn enabled(profile: &Profile, dir: &ProfileDir) -> Result<Vec<Addon>> {
    profile
        .addons
        .iter()
        .map(|name| match addon::kept(dir, name)? {
            Some(own) => Ok(own),
            None => addon::find(name).map_err(|e| {
                Error::new(
                    Kind::State,
                    format!(
                        "the add-on `{name}` of the cluster `{}` is gone",
                        profile.name
                    ),
                )
                .with_source(e)
                .with_hint(format!("kubby addon disable{} {name}", profile.name.flag()))
            }),
        })
        .collect()
}

/// Reads what the user names: an add-on of kubby, or a folder of their own.
///
/// # Errors
/// [`Kind::Usage`] for a name or folder that is none.
pub(crate) fn read(what: &str, kubectl: &Path) -> Result<Folder> {
    if addon::is_folder(what) {
        let usual = Path::new("kubectl");
        let kubectl = if kubectl.as_os_str().is_empty() {
            usual
        } else {
            kubectl
        };
        return addon::read(Path::new(what), kubectl);
    }
    Ok(Folder {
        addon: addon::find(what)?,
        archives: Vec::new(),
    })
}

/// The add-ons that `start`'s flags bring; those flags are checked as a whole.
///
/// # Errors
/// [`Kind::Usage`] for a name or folder that is none.
pub(crate) fn brought(options: &StartOptions, existing: Option<&Profile>) -> Result<Vec<Folder>> {
    let kubectl = existing
        .map(|p| p.assets.kubectl.clone())
        .unwrap_or_default();
    for name in &options.no_addons {
        if options.addons.contains(name) {
            return Err(Error::new(
                Kind::Usage,
                format!("--addon and --no-addon both name `{name}`"),
            ));
        }
        let is_own = existing.is_some_and(|p| p.addons.contains(name));
        if !is_own {
            addon::find(name)?;
        }
    }
    options
        .addons
        .iter()
        .map(|what| read(what, &kubectl))
        .collect()
}

/// Puts the images of kubby's own add-ons from the component volume into the node's containerd.
///
/// # Errors
/// [`Kind::Unhealthy`] when the volume lacks one or containerd refuses it.
pub(crate) fn import(remote: &mut dyn Remote, addons: &[&Addon]) -> Result<()> {
    let wanted = |archive: &str| {
        let uses = |addon: &&Addon| addon.images.iter().any(|name| name == archive);
        addons.iter().any(uses)
    };
    let images: Vec<(&str, &str)> = components::IMAGES
        .iter()
        .filter(|(archive, _)| wanted(archive))
        .map(|(archive, image)| (*image, *archive))
        .collect();
    if images.is_empty() {
        return Ok(());
    }
    let _span = trace::span("import images in the node");
    let output = remote.exec(&provision::import_command(&images), b"", None)?;
    if output.status == provision::NO_ARCHIVE {
        return Err(Error::new(
            Kind::State,
            "the cluster's components lack an image that its add-ons need",
        )
        .with_detail("the node says", String::from_utf8_lossy(&output.stderr))
        .with_hint("a cluster of an older kubby has to be made anew: kubby delete, kubby start")
        .with_hint("kubby addon disable NAME, or kubby start --no-addon NAME, does without"));
    }
    output.require("importing the add-ons' images").map(drop)
}

/// Loads the image archives of a user's folder into the node.
///
/// # Errors
/// As [`image::load`].
pub(crate) fn load(access: &Access, archives: &[PathBuf], progress: &dyn Progress) -> Result<()> {
    for archive in archives {
        image::load(access, &archive.to_string_lossy(), &[], progress)?;
    }
    Ok(())
}

/// Applies add-ons; what others changed is told and left alone.
///
/// # Errors
/// As [`addon::apply`].
pub(crate) fn apply(
    api: &ApiClient,
    addons: &[&Addon],
    force: bool,
    deadline: Instant,
    flag: &str,
    progress: &dyn Progress,
) -> Result<()> {
    for addon in addons {
        let _span = trace::span(format!("apply {}", addon.name));
        let applied = addon::apply(api, addon, force, deadline)?;
        for (object, why) in applied.conflicts {
            progress.warn(&format!(
                "the add-on `{0}`: {object} was changed by somebody else and is left so ({why}); \
                 `kubby addon enable{flag} --force {0}` puts it back",
                addon.name
            ));
        }
    }
    Ok(())
}

/// A running cluster that an add-on is brought into or out of.
struct Running<'a> {
    access: Access,
    api: ApiClient,
    progress: &'a dyn Progress,
}

impl<'a> Running<'a> {
    fn open(store: &Store, name: &ProfileName, progress: &'a dyn Progress) -> Result<Self> {
        let access = Access::open(store, name)?;
        let hypervisor = Libvirt::open(&access.profile.connect)?;
        let running = hypervisor
            .find(&name.resource_name())?
            .is_some_and(|domain| domain.state.is_active());
        if !running {
            return Err(
                Error::new(Kind::State, format!("the cluster `{name}` does not run"))
                    .with_hint(format!("kubby start{}", name.flag())),
            );
        }
        let api = access.api()?;
        api.ready().map_err(|e| {
            e.with_hint(format!(
                "kubby start{} repairs what is missing",
                name.flag()
            ))
        })?;
        Ok(Running {
            access,
            api,
            progress,
        })
    }

    fn ssh(&self) -> Result<Ssh> {
        Ssh::connect(&self.access.target()?, self.access.deadline(CONNECT_LIMIT))
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.access.deadline(READY_LIMIT)
    }

    fn enable(&mut self, folder: &Folder, force: bool) -> Result<()> {
        let addon = &folder.addon;
        let flag = self.access.profile.name.flag();
        let step = self
            .progress
            .step(&format!("Enable the add-on {}", addon.name));
        if !addon.images.is_empty() {
            step.detail("importing its images");
            import(&mut self.ssh()?, &[addon])?;
        }
        load(&self.access, &folder.archives, self.progress)?;
        step.detail("applying its manifests");
        let began = Instant::now();
        let deadline = self.deadline();
        apply(&self.api, &[addon], force, deadline, &flag, self.progress)?;
        // It is in the cluster: from here on `start` and `disable` know of it.
        if addon.folder.is_some() {
            addon::keep(&self.access.dir, addon)?;
        }
        let enabled = &mut self.access.profile.addons;
        if !enabled.contains(&addon.name) {
            enabled.push(addon.name.clone());
            self.access.profile.save(&self.access.dir)?;
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
                return Err(last.map_or(error, |last| last));
            }
            interrupt::check()?;
            std::thread::sleep(LOOK_EVERY);
        }
        step.done(format!("{} objects", addon.objects.len()));
        Ok(())
    }

    fn disable(&mut self, name: &str) -> Result<bool> {
        let step = self.progress.step(&format!("Disable the add-on {name}"));
        let gone = addon::remove(&self.api, name, self.deadline())?;
        let before = self.access.profile.addons.len();
        self.access.profile.addons.retain(|enabled| enabled != name);
        let was_enabled = self.access.profile.addons.len() < before;
        if was_enabled {
            self.access.profile.save(&self.access.dir)?;
        }
        addon::forget(&self.access.dir, name)?;
        if gone.is_empty() && !was_enabled {
            step.skipped("it is not enabled");
            return Ok(false);
        }
        step.done(format!("{} objects removed", gone.len()));
        Ok(true)
    }
}

/// Brings add-ons into a running cluster, waits until they are at work, and has every `start`
/// apply them again.
///
/// # Errors
/// [`Kind::Usage`] for a name or folder that is no add-on, before anything is changed;
/// [`Kind::State`] where the cluster does not run; [`Kind::Unhealthy`] when one is not at work in
/// time.
pub fn enable(
    store: &Store,
    name: &ProfileName,
    wanted: &[String],
    force: bool,
    progress: &dyn Progress,
) -> Result<Vec<String>> {
    let _lock = crate::cluster::lock(store, name, progress)?;
    let access = Access::open(store, name)?;
    let folders: Vec<Folder> = wanted
        .iter()
        .map(|what| read(what, &access.profile.assets.kubectl))
        .collect::<Result<_>>()?;
    let mut running = Running::open(store, name, progress)?;
    for folder in &folders {
        running.enable(folder, force)?;
    }
    Ok(folders.into_iter().map(|f| f.addon.name).collect())
}

/// Takes add-ons out of a running cluster; answers with those that were there.
///
/// # Errors
/// [`Kind::Usage`] for a name that no add-on has, before anything is changed; [`Kind::State`]
/// where the cluster does not run; [`Kind::Unhealthy`] when an object does not go in time.
pub fn disable(
    store: &Store,
    name: &ProfileName,
    wanted: &[String],
    progress: &dyn Progress,
) -> Result<Vec<String>> {
    let _lock = crate::cluster::lock(store, name, progress)?;
    let known = list(store, name)?;
    let mut running = Running::open(store, name, progress)?;
    let applied = addon::applied_names(&running.api)?;
    for what in wanted {
        if !known.iter().any(|row| row.name == *what) && !applied.contains(what) {
            let names: Vec<&str> = known.iter().map(|row| row.name.as_str()).collect();
            return Err(Error::new(
                Kind::Usage,
                format!(
                    "there is no add-on named `{what}`; there are {}",
                    names.join(", ")
                ),
            ));
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

/// One add-on as it would be applied: of the profile, of kubby, or of a folder.
///
/// # Errors
/// [`Kind::Usage`] for a name or folder that is none.
pub fn show(store: &Store, name: &ProfileName, what: &str) -> Result<Addon> {
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
