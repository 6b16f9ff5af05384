//! Every path of kubby's state and assets.
//!
//! State lives under `KUBBY_HOME` (default: `kubby` in the user's data folder), one folder a
//! profile. Assets that any cluster can share live under `KUBBY_CACHE` (default: `kubby` in the
//! user's cache folder); deleting them costs time, never data.

mod pool_name;
mod profile_dir;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil::{self, Lock};
use crate::name::ProfileName;
use crate::process;

pub use profile_dir::ProfileDir;

/// The beginning of the name of a folder in which a fork is made, before the process's ID.
pub(crate) const FORK_STAGING: &str = ".fork-";

/// The folder of the folders of the pools of the system's libvirt.
const SYSTEM_POOLS: &str = "/var/lib/libvirt/images";

/// The setting that a home's path comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HomeOrigin {
    /// `KUBBY_HOME`.
    KubbyHome,
    /// `XDG_DATA_HOME`.
    DataHome,
    /// The user's home folder.
    Default,
}

/// The folders of state and assets.
#[derive(Debug, Clone)]
pub struct Store {
    home: PathBuf,
    cache: PathBuf,
    origin: HomeOrigin,
    no_wait: bool,
    /// The uppermost of the folders above the home that this process has made.
    made: Arc<OnceLock<PathBuf>>,
}

impl Store {
    /// From `KUBBY_HOME` and `KUBBY_CACHE`, or the user's data and cache folders.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a relative path, [`Kind::Preflight`] where the user has no home.
    pub fn from_env() -> Result<Self> {
        let standard = |dir: Option<PathBuf>, variable: &str| {
            dir.map(|d| d.join("kubby")).ok_or_else(|| {
                Error::preflight("this user has no home folder")
                    .with_hint(format!("set {variable} to a folder for kubby"))
            })
        };
        let given = |variable: &str| -> Result<Option<PathBuf>> {
            let Some(value) = std::env::var_os(variable).filter(|v| !v.is_empty()) else {
                return Ok(None);
            };
            let path = PathBuf::from(value);
            if !path.is_absolute() {
                return Err(Error::usage(format!(
                    "{variable} must be an absolute path, not `{}`",
                    path.display()
                )));
            }
            Ok(Some(path))
        };
        let home = given("KUBBY_HOME")?;
        let cache = given("KUBBY_CACHE")?;
        let data_home = std::env::var_os("XDG_DATA_HOME").is_some_and(|v| !v.is_empty());
        let origin = match home {
            Some(_) => HomeOrigin::KubbyHome,
            None if data_home => HomeOrigin::DataHome,
            None => HomeOrigin::Default,
        };
        let home = home.map_or_else(|| standard(dirs::data_dir(), "KUBBY_HOME"), Ok)?;
        let cache = cache.map_or_else(|| standard(dirs::cache_dir(), "KUBBY_CACHE"), Ok)?;
        Ok(Store {
            origin,
            ..Store::at(&home, &cache)
        })
    }

    /// Fixed folders, as if `KUBBY_HOME` had named the home.
    pub fn at(home: &Path, cache: &Path) -> Self {
        Store {
            home: fsutil::resolved(home),
            cache: cache.to_owned(),
            origin: HomeOrigin::KubbyHome,
            no_wait: false,
            made: Arc::default(),
        }
    }

    /// Lets locked profiles be an error rather than waited for.
    #[must_use]
    pub fn without_waiting(self, no_wait: bool) -> Self {
        Store { no_wait, ..self }
    }

    /// Returns the path of the home, with symbolic links resolved: however it was written, it is one
    /// home.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Returns why this home is not another one, for errors about what belongs to that other one.
    pub fn home_reason(&self) -> String {
        let home = self.home.display();
        match self.origin {
            HomeOrigin::KubbyHome => format!("this terminal has another KUBBY_HOME: {home}"),
            HomeOrigin::DataHome => format!(
                "this terminal has another XDG_DATA_HOME: {}",
                self.home.parent().unwrap_or(&self.home).display()
            ),
            HomeOrigin::Default => format!("this terminal uses the default home: {home}"),
        }
    }

    /// Returns the user who owns the home, or would own it if it was created now.
    pub fn owner(&self) -> u32 {
        let own = || rustix::process::geteuid().as_raw();
        self.home
            .metadata()
            .map_or_else(|_| own(), |meta| meta.uid())
    }

    /// `KUBBY_CACHE`.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// The folder of all profiles.
    pub fn profiles_dir(&self) -> PathBuf {
        self.home.join("profiles")
    }

    /// The folder of one profile.
    pub fn profile_dir(&self, name: &ProfileName) -> ProfileDir {
        ProfileDir::at(self.profiles_dir().join(name.as_str()))
    }

    /// Returns the folder in which this process makes a fork before it gets its name, so that a fork that
    /// was cut short is not a cluster: no profile's name begins so.
    pub(crate) fn fork_staging(&self) -> ProfileDir {
        let name = format!("{FORK_STAGING}{}", process::id());
        ProfileDir::at(self.profiles_dir().join(name))
    }

    /// Returns the folders of forks that living processes make.
    pub(crate) fn forks_in_progress(&self) -> Vec<ProfileDir> {
        let (living, _) = fsutil::of_processes(&self.profiles_dir(), FORK_STAGING);
        living.into_iter().map(ProfileDir::at).collect()
    }

    /// Removes the folders of forks whose process has ended.
    ///
    /// # Errors
    /// [`Kind::Internal`] when one cannot be removed.
    pub(crate) fn remove_abandoned_forks(&self) -> Result<()> {
        fsutil::of_living_processes(&self.profiles_dir(), FORK_STAGING).map(drop)
    }

    /// The folder of all warm templates.
    pub fn templates_dir(&self) -> PathBuf {
        self.home.join("templates")
    }

    /// The names of all profile folders, sorted; names that kubby would not make are left out.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the folder is there and cannot be read.
    pub fn profile_names(&self) -> Result<Vec<ProfileName>> {
        let dir = self.profiles_dir();
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => {
                return Err(e).context(Kind::Internal, || format!("cannot read {}", dir.display()));
            }
        };
        let mut names: Vec<ProfileName> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// Locks a profile against other kubby processes; `waiting` gets the holder before a wait.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the lock cannot be made, [`Kind::Interrupted`] on Ctrl-C;
    /// [`Kind::State`] when another has it and waiting is not wanted.
    pub fn lock_profile(&self, name: &ProfileName, waiting: impl FnOnce(&str)) -> Result<Lock> {
        let path = self.lock_file(&format!("{name}.lock"))?;
        Lock::acquire_unless(&path, || {
            let holder = Lock::process(&path).unwrap_or_else(|| "another kubby".into());
            if self.no_wait {
                return Err(
                    Error::state(format!("another kubby works on `{name}`: {holder}"))
                        .with_hint("without --no-wait this waits until that is done"),
                );
            }
            waiting(&holder);
            Ok(())
        })
    }

    /// Locks what all profiles of this home share: free ports and the storage pool.
    ///
    /// # Errors
    /// As [`Store::lock_profile`].
    pub fn lock_shared(&self, waiting: impl FnOnce()) -> Result<Lock> {
        // No profile can have this name, since names hold no underscore.
        Lock::acquire(&self.lock_file("_shared.lock")?, waiting)
    }

    /// Returns the path of a lock file in a folder that exists. Whatever changes the home takes a lock
    /// first, so that the pool's name is recorded before anything depends on it.
    fn lock_file(&self, file: &str) -> Result<PathBuf> {
        let dir = self.locks_dir();
        let above = self.home.ancestors().skip(1);
        if let Some(first) = above.take_while(|folder| !folder.exists()).last() {
            let _ = self.made.set(first.to_owned());
        }
        fsutil::create_private_dir(&dir)?;
        self.record_pool_name()?;
        Ok(dir.join(file))
    }

    fn locks_dir(&self) -> PathBuf {
        self.home.join("locks")
    }

    /// As [`Store::lock_profile`], but `None` when another kubby has the lock.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the lock cannot be made.
    pub fn try_lock_profile(&self, name: &ProfileName) -> Result<Option<Lock>> {
        Lock::try_acquire(&self.lock_file(&format!("{name}.lock"))?)
    }

    /// As [`Store::lock_shared`], but `None` when another kubby has the lock.
    ///
    /// # Errors
    /// As [`Store::try_lock_profile`].
    pub fn try_lock_shared(&self) -> Result<Option<Lock>> {
        Lock::try_acquire(&self.lock_file("_shared.lock")?)
    }

    /// Whether another kubby works on a profile. Makes no file.
    pub fn is_profile_locked(&self, name: &ProfileName) -> bool {
        fsutil::is_locked(&self.locks_dir().join(format!("{name}.lock")))
    }

    /// Whether another kubby works on what all profiles share. Makes no file.
    pub fn is_shared_locked(&self) -> bool {
        fsutil::is_locked(&self.locks_dir().join("_shared.lock"))
    }

    /// Removes what the last deleted profile leaves behind: the lock files and empty folders, with those
    /// above the home that this process has made.
    ///
    /// # Errors
    /// [`Kind::Internal`] when something cannot be removed.
    pub fn remove_if_empty(&self) -> Result<()> {
        if !self.profile_names()?.is_empty() {
            return Ok(());
        }
        self.remove_abandoned_forks()?;
        // A held lock's file stays: another process would create a new one and hold that too.
        for entry in std::fs::read_dir(self.locks_dir())
            .into_iter()
            .flatten()
            .flatten()
        {
            if let Some(_lock) = Lock::try_acquire(&entry.path())? {
                fsutil::remove_all(&entry.path())?;
            }
        }
        let _ = std::fs::remove_dir(self.locks_dir());
        if self.is_unused() {
            fsutil::remove_all(&self.pool_record())?;
        }
        // Folders with foreign content stay: only empty ones go.
        let _ = std::fs::remove_dir(self.profiles_dir());
        let _ = std::fs::remove_dir(self.home.join("pool"));
        let _ = std::fs::remove_dir(&self.home);
        if let Some(made) = self.made.get() {
            let above = self.home.ancestors().skip(1);
            for folder in above.take_while(|folder| folder.starts_with(made)) {
                let _ = std::fs::remove_dir(folder);
            }
        }
        Ok(())
    }

    /// Returns the pool's folder. Under `qemu:///system` QEMU runs as a user of its own, which cannot
    /// look into a private home, so that the system's pool is beside libvirt's images.
    pub fn pool_target(&self, uri: &str) -> PathBuf {
        if uri.contains("/system") {
            Path::new(SYSTEM_POOLS).join(self.pool_name())
        } else {
            self.home.join("pool")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_of_others_are_seen_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path(), dir.path());
        let name: ProfileName = "dev".parse().unwrap();
        assert!(!store.is_profile_locked(&name) && !store.is_shared_locked());
        assert!(!store.locks_dir().exists());
        let held = (
            store.lock_profile(&name, |_| {}).unwrap(),
            store.lock_shared(|| {}).unwrap(),
        );
        assert!(store.is_profile_locked(&name) && store.is_shared_locked());
        assert!(store.try_lock_profile(&name).unwrap().is_none());
        assert!(store.try_lock_shared().unwrap().is_none());
        drop(held);
        assert!(store.try_lock_profile(&name).unwrap().is_some());
        assert!(store.try_lock_shared().unwrap().is_some());
    }

    #[test]
    fn a_session_keeps_its_volumes_in_the_home() {
        let store = Store::at(Path::new("/a"), Path::new("/c"));
        assert_eq!(store.pool_target("qemu:///session"), Path::new("/a/pool"));
        assert!(
            store
                .pool_target("qemu:///system")
                .starts_with("/var/lib/libvirt/images")
        );
    }

    #[test]
    fn folders_above_the_home_go_with_it_if_they_were_made_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("a/b/home");
        std::fs::create_dir(dir.path().join("a")).unwrap();
        let store = Store::at(&home, &home);
        drop(store.lock_shared(|| {}).unwrap());
        store.remove_if_empty().unwrap();
        assert!(!dir.path().join("a/b").exists());
        assert!(dir.path().join("a").exists());
    }

    #[test]
    fn the_last_profile_takes_the_folders_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let store = Store::at(&home, &home);
        let name: ProfileName = "dev".parse().unwrap();
        drop(store.lock_profile(&name, |_| {}).unwrap());
        let profile = store.profile_dir(&name);
        fsutil::create_private_dir(profile.root()).unwrap();
        store.remove_if_empty().unwrap();
        assert!(home.exists());
        fsutil::remove_all(profile.root()).unwrap();
        // No process has this id.
        let fork = store
            .profiles_dir()
            .join(format!("{FORK_STAGING}4294967295"));
        std::fs::create_dir(&fork).unwrap();
        std::fs::create_dir(store.fork_staging().root()).unwrap();
        store.remove_if_empty().unwrap();
        assert!(!fork.exists() && store.fork_staging().root().exists());
        std::fs::remove_dir(store.fork_staging().root()).unwrap();
        store.remove_if_empty().unwrap();
        assert!(!home.exists());
    }
}
