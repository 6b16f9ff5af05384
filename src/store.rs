//! Where kubby keeps what: every path of its state and assets, in one place.
//!
//! State lives under `KUBBY_HOME` (default: `kubby` in the user's data folder), one folder a
//! profile. Assets that any cluster can share live under `KUBBY_CACHE` (default: `kubby` in the
//! user's cache folder); deleting them costs time, never data.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil::{self, Lock};
use crate::name::{DEFAULT_PROFILE, ProfileName};

/// The folders of state and assets.
#[derive(Debug, Clone)]
pub struct Store {
    home: PathBuf,
    cache: PathBuf,
    default_home: bool,
    no_wait: bool,
}

impl Store {
    /// From `KUBBY_HOME` and `KUBBY_CACHE`, or the user's data and cache folders.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a relative path, [`Kind::Preflight`] where the user has no home.
    pub fn from_env() -> Result<Self> {
        let standard = |dir: Option<PathBuf>, variable: &str| {
            dir.map(|d| d.join("kubby")).ok_or_else(|| {
                Error::new(Kind::Preflight, "this user has no home folder")
                    .with_hint(format!("set {variable} to a folder for kubby"))
            })
        };
        let given = |variable: &str| -> Result<Option<PathBuf>> {
            let Some(value) = std::env::var_os(variable).filter(|v| !v.is_empty()) else {
                return Ok(None);
            };
            let path = PathBuf::from(value);
            if !path.is_absolute() {
                return Err(Error::new(
                    Kind::Usage,
                    format!(
                        "{variable} must be an absolute path, not `{}`",
                        path.display()
                    ),
                ));
            }
            Ok(Some(path))
        };
        let home = given("KUBBY_HOME")?;
        let cache = given("KUBBY_CACHE")?;
        Ok(Store {
            default_home: home.is_none(),
            no_wait: false,
            home: home.map_or_else(|| standard(dirs::data_dir(), "KUBBY_HOME"), Ok)?,
            cache: cache.map_or_else(|| standard(dirs::cache_dir(), "KUBBY_CACHE"), Ok)?,
        })
    }

    /// Fixed folders, for tests.
    pub fn at(home: &Path, cache: &Path) -> Self {
        Store {
            home: home.to_owned(),
            cache: cache.to_owned(),
            default_home: false,
            no_wait: false,
        }
    }

    /// Lets locked profiles be an error rather than waited for.
    #[must_use]
    pub fn without_waiting(self, no_wait: bool) -> Self {
        Store { no_wait, ..self }
    }

    /// `KUBBY_HOME`.
    pub fn home(&self) -> &Path {
        &self.home
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
        ProfileDir {
            root: self.profiles_dir().join(name.as_str()),
        }
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

    /// Locks a profile against other kubby processes; `waiting` is told who has it before a wait.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the lock cannot be made, [`Kind::Interrupted`] on Ctrl-C;
    /// [`Kind::State`] when another has it and waiting is not wanted.
    pub fn lock_profile(&self, name: &ProfileName, waiting: impl FnOnce(&str)) -> Result<Lock> {
        let path = self.lock_file(&format!("{name}.lock"))?;
        Lock::acquire_unless(&path, || {
            let holder = Lock::process(&path).unwrap_or_else(|| "another kubby".into());
            if self.no_wait {
                return Err(Error::new(
                    Kind::State,
                    format!("another kubby works on `{name}`: {holder}"),
                )
                .with_hint("without --no-wait this waits until that is done"));
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

    fn lock_file(&self, file: &str) -> Result<PathBuf> {
        let dir = self.locks_dir();
        fsutil::create_private_dir(&dir)?;
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
        self.try_lock(&format!("{name}.lock"))
    }

    /// As [`Store::lock_shared`], but `None` when another kubby has the lock.
    ///
    /// # Errors
    /// As [`Store::try_lock_profile`].
    pub fn try_lock_shared(&self) -> Result<Option<Lock>> {
        self.try_lock("_shared.lock")
    }

    fn try_lock(&self, file: &str) -> Result<Option<Lock>> {
        Lock::try_acquire(&self.lock_file(file)?)
    }

    /// Whether another kubby works on a profile. Makes no file.
    pub fn is_profile_locked(&self, name: &ProfileName) -> bool {
        fsutil::is_locked(&self.locks_dir().join(format!("{name}.lock")))
    }

    /// Whether another kubby works on what all profiles share. Makes no file.
    pub fn is_shared_locked(&self) -> bool {
        fsutil::is_locked(&self.locks_dir().join("_shared.lock"))
    }

    /// Removes what the last deleted profile leaves behind: the lock files and empty folders.
    ///
    /// # Errors
    /// [`Kind::Internal`] when something cannot be removed.
    pub fn remove_if_empty(&self) -> Result<()> {
        if !self.profile_names()?.is_empty() {
            return Ok(());
        }
        // Not those that somebody holds: another would make a new file and hold that.
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
        // Folders with foreign content stay: only empty ones go.
        let _ = std::fs::remove_dir(self.profiles_dir());
        let _ = std::fs::remove_dir(&self.home);
        Ok(())
    }

    /// The name of the storage pool that holds this home's volumes in libvirt. Another
    /// `KUBBY_HOME` has another pool, so that one never deletes what another uses.
    pub fn pool_name(&self) -> String {
        if self.default_home {
            return DEFAULT_PROFILE.to_owned();
        }
        let digest = Sha256::digest(self.home.as_os_str().as_encoded_bytes());
        let short: String = digest.iter().take(4).map(|b| format!("{b:02x}")).collect();
        format!("{DEFAULT_PROFILE}-{short}")
    }

    /// The pool's folder. QEMU runs as a user of its own under `qemu:///system` and cannot look
    /// into a private home (the reason why the system's pool lives with libvirt's images).
    pub fn pool_target(&self, uri: &str) -> PathBuf {
        if uri.contains("/system") {
            Path::new("/var/lib/libvirt/images").join(self.pool_name())
        } else {
            self.home.join("pool")
        }
    }
}

/// The files of one profile.
#[derive(Debug, Clone)]
pub struct ProfileDir {
    root: PathBuf,
}

impl ProfileDir {
    /// The layout of a profile's folder elsewhere: a saved state's, for example.
    pub fn at(root: PathBuf) -> Self {
        ProfileDir { root }
    }
    /// The folder itself, 0700.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// What is wanted: the profile.
    pub fn profile(&self) -> PathBuf {
        self.root.join("profile.toml")
    }
    /// The profile's file as an earlier version of it left it.
    pub fn earlier_profile(&self, version: u32) -> PathBuf {
        self.root.join(format!("profile.toml.v{version}"))
    }
    /// Keys and certificates of the cluster.
    pub fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }
    /// The operator's SSH key, OpenSSH format, 0600; its public part beside it.
    pub fn ssh_key(&self) -> PathBuf {
        self.root.join("ssh/id_ed25519")
    }
    /// The node's own SSH host key, 0600; its public part beside it.
    pub fn host_key(&self) -> PathBuf {
        self.root.join("ssh/host_ed25519")
    }
    /// Add-ons of the user's own, as they were when they were enabled.
    pub fn addons(&self) -> PathBuf {
        self.root.join("addons")
    }
    /// The identity that the node still has when this cluster began as a copy of another; gone
    /// once the node has its own. Laid out as this folder.
    pub fn handover(&self) -> PathBuf {
        self.root.join("handover")
    }
    /// A mark that is there until the machine runs for the first time, see
    /// [`machine_runs`](Self::machine_runs).
    pub fn never_ran(&self) -> PathBuf {
        self.root.join("never-ran")
    }
    /// Takes the mark away for good, as has to be done before the machine's first instruction:
    /// what has the mark holds nothing of anybody's and is made anew by the next start.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the file system refuses.
    pub fn machine_runs(&self) -> Result<()> {
        fsutil::remove_all(&self.never_ran())?;
        // It must not come back with a power loss.
        std::fs::File::open(&self.root)
            .and_then(|folder| folder.sync_all())
            .context(Kind::Internal, || {
                format!("cannot sync {}", self.root.display())
            })
    }
    /// Saved states that the user made, one folder each.
    pub fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }
    /// The saved state of a cluster that is suspended.
    pub fn suspended(&self) -> PathBuf {
        self.root.join("suspended")
    }
    /// The mark of a throwaway cluster, which its process holds a lock on.
    pub fn throwaway(&self) -> PathBuf {
        self.root.join("throwaway")
    }
    /// Programs that fit the cluster, for the search path of a command that is run on it.
    pub fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }
    /// A kubeconfig with this cluster alone, 0600.
    pub fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_of_other_homes_have_other_names() {
        let a = Store::at(Path::new("/a"), Path::new("/c"));
        let b = Store::at(Path::new("/b"), Path::new("/c"));
        assert_ne!(a.pool_name(), b.pool_name());
        assert_ne!(a.pool_name(), DEFAULT_PROFILE);
    }

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
        store.remove_if_empty().unwrap();
        assert!(!home.exists());
    }
}
