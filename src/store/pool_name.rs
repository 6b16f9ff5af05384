//! The name of a home's storage pool.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{HomeOrigin, SYSTEM_POOLS, Store};
use crate::error::Result;
use crate::fsutil::{self, Lock};
use crate::hypervisor::storage_xml;
use crate::name::{DEFAULT_PROFILE, ProfileName};

impl Store {
    /// Returns the name of the storage pool that holds this home's volumes in libvirt. Each home of
    /// each user has a pool of its own, so that one home never deletes another's volumes. The name is
    /// recorded in the home: homes of earlier versions keep the pool that they have.
    pub fn pool_name(&self) -> String {
        let recorded = std::fs::read_to_string(self.pool_record()).ok();
        let recorded = recorded.map(|text| text.trim().to_owned());
        recorded
            .filter(|name| is_pool_name(name))
            .unwrap_or_else(|| {
                if self.is_unused() {
                    self.new_pool_name()
                } else {
                    self.earlier_pool_name()
                }
            })
    }

    /// Records the pool's name; a no-op where it is recorded.
    pub(super) fn record_pool_name(&self) -> Result<()> {
        if self.pool_record().exists() {
            return Ok(());
        }
        // Under a lock, so that an unfinished file is a killed process's.
        let _lock = Lock::acquire(&self.locks_dir().join("_record.lock"), || {})?;
        fsutil::remove_unfinished(&self.home, false)?;
        if self.pool_record().exists() {
            return Ok(());
        }
        let name = self.pool_name();
        fsutil::write_atomic(&self.pool_record(), format!("{name}\n").as_bytes(), 0o600)
    }

    pub(super) fn pool_record(&self) -> PathBuf {
        self.home.join("pool-name")
    }

    /// Returns whether the home has neither clusters nor templates.
    pub(super) fn is_unused(&self) -> bool {
        let is_empty = |dir: &Path| {
            let mut entries = std::fs::read_dir(dir).into_iter().flatten();
            entries.next().is_none()
        };
        is_empty(&self.profiles_dir()) && is_empty(&self.templates_dir())
    }

    fn new_pool_name(&self) -> String {
        let mut digest = Sha256::new();
        digest.update(self.owner().to_le_bytes());
        digest.update(self.home.as_os_str().as_encoded_bytes());
        short_name(digest)
    }

    /// Returns the name that versions before the record gave the pool. It depended on the variable that
    /// the home came from, which can be another one now, so that what exists counts first.
    fn earlier_pool_name(&self) -> String {
        let of_path = Sha256::new_with_prefix(self.home.as_os_str().as_encoded_bytes());
        let (of_path, usual) = (short_name(of_path), DEFAULT_PROFILE.to_owned());
        let system = Path::new(SYSTEM_POOLS);
        let own = self.home.join("pool");
        if system.join(&of_path).exists() || is_session_pool(&of_path, &own) {
            return of_path;
        }
        // A seed has the name of its domain, which libvirt has once.
        let has_seed = |name: &ProfileName| {
            let seed = format!("{usual}/{}.seed.tar", name.resource_name());
            system.join(seed).exists()
        };
        let is_usual = match own.exists() {
            true => is_session_pool(&usual, &own),
            false => self
                .profile_names()
                .is_ok_and(|names| names.iter().any(has_seed)),
        };
        match is_usual || self.origin != HomeOrigin::KubbyHome {
            true => usual,
            false => of_path,
        }
    }
}

/// Returns whether the user's own libvirt has a pool of this name in a folder. Its record is read, since
/// the name is needed before libvirt can be asked.
fn is_session_pool(name: &str, folder: &Path) -> bool {
    let record = dirs::config_dir().map(|dir| dir.join(format!("libvirt/storage/{name}.xml")));
    let xml = record.and_then(|record| std::fs::read_to_string(record).ok());
    let target = xml.and_then(|xml| storage_xml::pool_target(&xml));
    target.is_some_and(|target| fsutil::same_place(Path::new(&target), folder))
}

/// Returns a pool's name with the beginning of a digest.
fn short_name(digest: Sha256) -> String {
    let digest = digest.finalize();
    let short: String = digest.iter().take(4).map(|b| format!("{b:02x}")).collect();
    format!("{DEFAULT_PROFILE}-{short}")
}

/// Returns whether a text can be a pool's name: it becomes a folder's name too.
fn is_pool_name(text: &str) -> bool {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.starts_with(DEFAULT_PROFILE) && text.len() <= 40 && text.chars().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_home_has_a_pool_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let a = Store::at(&dir.path().join("a"), dir.path());
        let b = Store::at(&dir.path().join("b"), dir.path());
        assert_ne!(a.pool_name(), b.pool_name());
        let default = Store {
            origin: HomeOrigin::Default,
            ..a.clone()
        };
        assert_eq!(default.pool_name(), a.pool_name());
        assert_ne!(default.pool_name(), DEFAULT_PROFILE);
    }

    #[test]
    fn a_home_is_one_home_however_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        std::fs::create_dir(&home).unwrap();
        std::os::unix::fs::symlink(&home, dir.path().join("link")).unwrap();
        let name = Store::at(&home, dir.path()).pool_name();
        for written in ["home/", "./home", "link", "link/", "x/../home"] {
            let path = PathBuf::from(format!("{}//{written}", dir.path().display()));
            let store = Store::at(&path, dir.path());
            assert_eq!(store.pool_name(), name, "{written}");
            assert_eq!(store.home(), home.canonicalize().unwrap());
        }
    }

    #[test]
    fn a_home_of_an_earlier_version_keeps_its_pool() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store {
            origin: HomeOrigin::DataHome,
            ..Store::at(&dir.path().join("home"), dir.path())
        };
        fsutil::create_private_dir(&store.profiles_dir().join("kubby")).unwrap();
        assert_eq!(store.pool_name(), DEFAULT_PROFILE);
        drop(store.lock_shared(|| {}).unwrap());
        fsutil::remove_all(&store.profiles_dir()).unwrap();
        assert_eq!(store.pool_name(), DEFAULT_PROFILE, "it is recorded");
        store.remove_if_empty().unwrap();
        assert_ne!(store.pool_name(), DEFAULT_PROFILE);
        std::fs::create_dir_all(store.home()).unwrap();
        std::fs::write(store.pool_record(), "../../etc\n").unwrap();
        assert_eq!(store.pool_name(), store.new_pool_name(), "no such name");
    }
}
