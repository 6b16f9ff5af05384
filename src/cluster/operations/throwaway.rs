//! Throwaway clusters: created for one command, and deleted with the process that created them.

use crate::cluster::env::Env;
use crate::cluster::operations::delete;
use crate::cluster::spec::StartOptions;
use crate::cluster::start::{self, Started};
use crate::cluster::throwaway_mark::{is_abandoned, is_held};
use crate::error::{Error, Result};
use crate::fault;
use crate::fsutil::{self, Lock};
use crate::name::ProfileName;

/// A cluster that is deleted when this is dropped, unless it is kept.
pub(crate) struct Throwaway<'a> {
    env: Env<'a>,
    name: ProfileName,
    /// The lock on the mark; nothing for a cluster that is to be kept whatever happens.
    _mark: Option<Lock>,
    /// Nothing is left to be done when it is dropped.
    over: bool,
}

impl<'a> Throwaway<'a> {
    /// Takes a name for a cluster: the given one, or one that is free. With `keep` it is kept
    /// whatever happens to this process.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) where there is a cluster of the given name.
    pub(crate) fn begin(env: &Env<'a>, name: Option<&ProfileName>, keep: bool) -> Result<Self> {
        let name = match name {
            Some(name) => name.clone(),
            None => fresh_name()?,
        };
        let _lock = env.lock(&name)?;
        let dir = env.store.profile_dir(&name);
        if dir.profile().exists() || is_held(&dir)? {
            return Err(
                Error::state(format!("there is a cluster named `{name}` already"))
                    .with_hint("leave out --profile, and it gets a name of its own")
                    .with_hint(format!("or delete that one: kubby delete{}", name.flag())),
            );
        }
        fsutil::remove_all(dir.root())?;
        fsutil::create_private_dir(dir.root())?;
        let mark = match keep {
            true => None,
            false => Some(Lock::acquire(&dir.throwaway(), || {})?),
        };
        Ok(Throwaway {
            env: *env,
            name,
            _mark: mark,
            over: keep,
        })
    }

    /// The cluster's profile.
    pub(crate) fn name(&self) -> &ProfileName {
        &self.name
    }

    /// Starts it, with a context in its own kubeconfig only.
    ///
    /// # Errors
    /// As [`start::start()`] has them.
    pub(crate) fn start(&self, options: StartOptions) -> Result<Started> {
        let options = StartOptions {
            own_kubeconfig: true,
            ..options
        };
        start::start(&self.env, &self.name, &options)
    }

    /// Makes it a cluster like any other, if it came to be one. Returns whether it did.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when its mark cannot be removed.
    pub(crate) fn keep(mut self) -> Result<bool> {
        let dir = self.env.store.profile_dir(&self.name);
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
    /// As [`delete::delete`] has them; the next one that sweeps tries again.
    pub(crate) fn delete(mut self) -> Result<()> {
        self.over = true;
        delete::delete(&self.env, &self.name).map(drop)
    }
}

impl Drop for Throwaway<'_> {
    fn drop(&mut self) {
        if self.over || fault::is_killed() {
            return;
        }
        if let Err(e) = delete::delete(&self.env, &self.name) {
            self.env.progress.warn(e.message());
        }
    }
}

fn fresh_name() -> Result<ProfileName> {
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("run-{}", &id[..8])
        .parse()
        .map_err(|why: String| Error::internal(why))
}

/// Deletes the throwaway clusters whose processes are gone, and returns their names.
///
/// # Errors
/// As [`delete::delete`] has them.
pub(crate) fn sweep(env: &Env<'_>) -> Result<Vec<ProfileName>> {
    let mut swept = Vec::new();
    for name in env.store.profile_names()? {
        let dir = env.store.profile_dir(&name);
        if !is_abandoned(&dir)? {
            continue;
        }
        let lock = env.lock(&name)?;
        // Another process may have been faster, and another cluster may have the name now.
        if is_abandoned(&dir)? {
            env.progress.note(&format!(
                "the process that made the throwaway cluster `{name}` has ended"
            ));
            delete::delete_locked(env, &name, lock)?;
            swept.push(name);
        }
    }
    Ok(swept)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cluster::env::Real;
    use crate::cluster::throwaway_mark::{clear_abandoned, empty_folder};
    use crate::error::Kind;
    use crate::progress::Silent;
    use crate::store::Store;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(&dir.path().join("home"), &dir.path().join("cache"));
        (dir, store)
    }

    fn env(store: &Store) -> Env<'_> {
        Env {
            store,
            backend: &Real,
            progress: &Silent,
        }
    }

    #[test]
    fn a_living_process_keeps_its_mark_through_everything() {
        let (_tmp, store) = store();
        let env = env(&store);
        let cluster = Throwaway::begin(&env, None, false).unwrap();
        let dir = store.profile_dir(cluster.name());
        fs::write(dir.root().join("other"), "").unwrap();
        empty_folder(&dir).unwrap();
        clear_abandoned(&dir).unwrap();
        assert!(dir.throwaway().exists() && !dir.root().join("other").exists());
        assert_eq!(sweep(&env).unwrap(), []);
        let again = Throwaway::begin(&env, Some(cluster.name()), false);
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
        assert!(!is_abandoned(&dir).unwrap(), "without a mark it is not one");
        fs::write(dir.throwaway(), "").unwrap();
        assert!(is_abandoned(&dir).unwrap());
        clear_abandoned(&dir).unwrap();
        assert!(!dir.throwaway().exists() && dir.root().exists());
        fs::write(dir.throwaway(), "").unwrap();
        empty_folder(&dir).unwrap();
        assert!(!dir.root().exists());
    }

    #[test]
    fn what_is_kept_has_no_mark() {
        let (_tmp, store) = store();
        let env = env(&store);
        for keep in [true, false] {
            let cluster = Throwaway::begin(&env, None, keep).unwrap();
            let dir = store.profile_dir(cluster.name());
            assert_eq!(dir.throwaway().exists(), !keep);
            fs::write(dir.profile(), "").unwrap();
            assert!(cluster.keep().unwrap());
            assert!(dir.profile().exists() && !dir.throwaway().exists());
        }
        assert_eq!(sweep(&env).unwrap(), []);
    }

    #[test]
    fn names_of_their_own_differ() {
        let (a, b) = (fresh_name().unwrap(), fresh_name().unwrap());
        assert!(a != b && a.as_str().starts_with("run-"), "{a} {b}");
    }
}
