//! Throwaway clusters: made for one command, and deleted with the process that made them.
//!
//! A mark in the profile's folder says that a cluster is one. Its process holds a lock on it, and
//! the kernel lets go of that however the process ends, so that no process id has to be trusted.
//! Who finds a mark that nobody holds deletes the cluster.

use std::fs;
use std::path::PathBuf;

use crate::cluster::StartOptions;
use crate::cluster::Started;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil::{self, Lock};
use crate::profile::ProfileName;
use crate::progress::Progress;
use crate::store::{ProfileDir, Store};

/// A cluster that is deleted when this is dropped, unless it is kept.
pub struct Throwaway<'a> {
    store: &'a Store,
    name: ProfileName,
    progress: &'a dyn Progress,
    /// The lock on the mark; nothing for a cluster that is to be kept whatever happens.
    _mark: Option<Lock>,
    /// Nothing is left to be done when it is dropped.
    over: bool,
}

impl<'a> Throwaway<'a> {
    /// Takes a name for a cluster: the given one, or one that nobody has. With `keep` it is kept
    /// whatever happens to this process.
    ///
    /// # Errors
    /// [`Kind::State`] where there is a cluster of the given name.
    pub fn begin(
        store: &'a Store,
        name: Option<&ProfileName>,
        keep: bool,
        progress: &'a dyn Progress,
    ) -> Result<Self> {
        let name = match name {
            Some(name) => name.clone(),
            None => fresh_name()?,
        };
        let _lock = crate::cluster::lock(store, &name, progress)?;
        let dir = store.profile_dir(&name);
        if dir.profile().exists() || is_held(&dir)? {
            return Err(Error::new(
                Kind::State,
                format!("there is a cluster named `{name}` already"),
            )
            .with_hint("leave out --profile, and it gets a name of its own")
            .with_hint(format!("or delete that one: kubby delete{}", name.flag())));
        }
        fsutil::remove_all(dir.root())?;
        fsutil::create_private_dir(dir.root())?;
        let mark = match keep {
            true => None,
            false => Some(Lock::acquire(&dir.throwaway(), || {})?),
        };
        Ok(Throwaway {
            store,
            name,
            progress,
            _mark: mark,
            over: keep,
        })
    }

    /// The cluster's profile.
    pub fn name(&self) -> &ProfileName {
        &self.name
    }

    /// Starts it, with a context in its own kubeconfig only.
    ///
    /// # Errors
    /// As [`crate::cluster::start()`] has them.
    pub fn start(&self, options: StartOptions) -> Result<Started> {
        let options = StartOptions {
            own_kubeconfig: true,
            ..options
        };
        crate::cluster::start(self.store, &self.name, &options, self.progress)
    }

    /// Makes it a cluster like any other, if it came to be one. Returns whether it did.
    ///
    /// # Errors
    /// [`Kind::Internal`] when its mark cannot be removed.
    pub fn keep(mut self) -> Result<bool> {
        let dir = self.store.profile_dir(&self.name);
        if !dir.profile().exists() {
            self.delete()?;
            return Ok(false);
        }
        fsutil::remove_all(&dir.throwaway())?;
        self.over = true;
        Ok(true)
    }

    /// Deletes it.
    ///
    /// # Errors
    /// As [`crate::cluster::delete()`] has them; the next one that sweeps tries again.
    pub fn delete(mut self) -> Result<()> {
        self.over = true;
        crate::cluster::delete(self.store, &self.name, self.progress).map(drop)
    }
}

impl Drop for Throwaway<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        if let Err(e) = crate::cluster::delete(self.store, &self.name, self.progress) {
            self.progress.warn(e.message());
        }
    }
}

fn fresh_name() -> Result<ProfileName> {
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("run-{}", &id[..8])
        .parse()
        .map_err(|why: String| Error::new(Kind::Internal, why))
}

/// Deletes the throwaway clusters whose processes are gone, and returns their names.
///
/// # Errors
/// As [`crate::cluster::delete()`] has them.
pub fn sweep(store: &Store, progress: &dyn Progress) -> Result<Vec<ProfileName>> {
    let mut swept = Vec::new();
    for name in store.profile_names()? {
        let dir = store.profile_dir(&name);
        if !is_abandoned(&dir)? {
            continue;
        }
        let lock = crate::cluster::lock(store, &name, progress)?;
        // Somebody else may have been faster, and another cluster may have the name now.
        if is_abandoned(&dir)? {
            progress.note(&format!(
                "the process that made the throwaway cluster `{name}` is gone"
            ));
            crate::cluster::operations::delete::delete_locked(store, &name, lock, progress)?;
            swept.push(name);
        }
    }
    Ok(swept)
}

/// Makes an abandoned throwaway cluster one like any other: somebody starts it again.
pub(crate) fn adopt(dir: &ProfileDir) -> Result<()> {
    if is_abandoned(dir)? {
        fsutil::remove_all(&dir.throwaway())?;
    }
    Ok(())
}

/// Empties the folder of a cluster that is to be made, but for the mark of a living process.
pub(crate) fn clear(dir: &ProfileDir) -> Result<()> {
    if !is_held(dir)? {
        return fsutil::remove_all(dir.root());
    }
    let fail = || format!("cannot read {}", dir.root().display());
    for entry in fs::read_dir(dir.root()).context(Kind::Internal, fail)? {
        let path: PathBuf = entry.context(Kind::Internal, fail)?.path();
        if path != dir.throwaway() {
            fsutil::remove_all(&path)?;
        }
    }
    Ok(())
}

fn is_abandoned(dir: &ProfileDir) -> Result<bool> {
    Ok(Lock::is_held(&dir.throwaway())? == Some(false))
}

fn is_held(dir: &ProfileDir) -> Result<bool> {
    Ok(Lock::is_held(&dir.throwaway())? == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(&dir.path().join("home"), &dir.path().join("cache"));
        (dir, store)
    }

    #[test]
    fn a_living_process_keeps_its_mark_through_everything() {
        let (_tmp, store) = store();
        let cluster = Throwaway::begin(&store, None, false, &Silent).unwrap();
        let dir = store.profile_dir(cluster.name());
        fs::write(dir.root().join("other"), "").unwrap();
        clear(&dir).unwrap();
        adopt(&dir).unwrap();
        assert!(dir.throwaway().exists() && !dir.root().join("other").exists());
        assert_eq!(sweep(&store, &Silent).unwrap(), []);
        let again = Throwaway::begin(&store, Some(cluster.name()), false, &Silent);
        let error = again.err().expect("the name is taken");
        assert_eq!(error.kind(), Kind::State);
        // As a killed process leaves it.
        let mut cluster = cluster;
        cluster.over = true;
        drop(cluster._mark.take());
        assert!(is_abandoned(&dir).unwrap());
    }

    #[test]
    fn who_starts_an_abandoned_one_keeps_it() {
        let (_tmp, store) = store();
        let dir = store.profile_dir(&"run-1".parse().unwrap());
        fsutil::create_private_dir(dir.root()).unwrap();
        assert!(!is_abandoned(&dir).unwrap(), "no mark is no throwaway");
        fs::write(dir.throwaway(), "").unwrap();
        assert!(is_abandoned(&dir).unwrap());
        adopt(&dir).unwrap();
        assert!(!dir.throwaway().exists() && dir.root().exists());
        fs::write(dir.throwaway(), "").unwrap();
        clear(&dir).unwrap();
        assert!(!dir.root().exists());
    }

    #[test]
    fn what_is_kept_has_no_mark() {
        let (_tmp, store) = store();
        for keep in [true, false] {
            let cluster = Throwaway::begin(&store, None, keep, &Silent).unwrap();
            let dir = store.profile_dir(cluster.name());
            assert_eq!(dir.throwaway().exists(), !keep);
            fs::write(dir.profile(), "").unwrap();
            assert!(cluster.keep().unwrap());
            assert!(dir.profile().exists() && !dir.throwaway().exists());
        }
        assert_eq!(sweep(&store, &Silent).unwrap(), []);
    }

    #[test]
    fn names_of_their_own_differ() {
        let (a, b) = (fresh_name().unwrap(), fresh_name().unwrap());
        assert!(a != b && a.as_str().starts_with("run-"), "{a} {b}");
    }
}
