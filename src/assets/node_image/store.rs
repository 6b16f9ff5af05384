//! The node images in the cache.
//!
//! `node-images/INPUTS-CONTENT/` holds an image; INPUTS says what it was made from, CONTENT what
//! came out. `INPUTS.lock` is held while one is made, in a folder `.INPUTS.….tmp`.

use std::path::{Path, PathBuf};

use super::{NodeImage, manifest};
use crate::assets::cache::{self, Cache};
use crate::error::{Error, Kind, Result};
use crate::fsutil;
use crate::progress::{Progress, Silent};

/// The part of the cache that holds node images.
pub(super) struct Store {
    pub(super) cache: Cache,
}

impl Store {
    /// Opens the node images, and makes their folder where needed, of a cache folder.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the folder cannot be made.
    pub(super) fn open(cache: &Path) -> Result<Self> {
        let cache = Cache::open(cache, "node-images")?;
        Ok(Store { cache })
    }

    /// Returns the intact image made from `inputs`, if there is one. Warns of damaged ones.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the cache cannot be read; [`Kind::Interrupted`].
    pub(super) fn find(&self, inputs: &str, progress: &dyn Progress) -> Result<Option<NodeImage>> {
        for dir in self.made_from(inputs)? {
            match manifest::check(&dir) {
                Err(why) if why.kind() == Kind::Assets => progress.warn(&format!(
                    "the cached node image {} is damaged and not used: {why}",
                    dir.display()
                )),
                image => return image.map(Some),
            }
        }
        Ok(None)
    }

    /// Returns the image made from `inputs`: the cached one, or, where there is none or `force` is
    /// set, a new one that replaces it. `make` puts disk, kernel and initrd into the folder that it
    /// gets. Of several processes that want the same image one makes it and the others wait.
    ///
    /// # Errors
    /// Those of `make`; [`Kind::Assets`] and [`Kind::Internal`] when the files are not usable or
    /// the cache cannot be written; [`Kind::Interrupted`].
    pub(super) fn provide(
        &self,
        inputs: &str,
        force: bool,
        progress: &dyn Progress,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<NodeImage> {
        let _lock = self.cache.lock(inputs, |lock| {
            progress.note(&format!(
                "another kubby is making the same node image; waiting for it (it holds {})",
                lock.display()
            ));
        })?;
        // The process that made these no longer runs, or it would hold the lock.
        let unfinished = format!(".{inputs}.");
        self.cache.clean(&unfinished)?;
        // Silent: callers look without the lock first, and have warned then.
        if !force && let Some(image) = self.find(inputs, &Silent)? {
            return Ok(image);
        }
        let work = self.cache.work(&unfinished, ".tmp")?;
        make(work.path())?;
        let key = manifest::write(work.path(), inputs)?;
        cache::sync(work.path(), &manifest::FILES)?;
        self.replace(&work.keep(), inputs, &key)
    }

    /// Makes `work` the only image made from `inputs`.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the file system refuses; [`Kind::Assets`] when it is not usable.
    pub(super) fn replace(&self, work: &Path, inputs: &str, key: &str) -> Result<NodeImage> {
        let superseded = self.made_from(inputs)?;
        let dir = self.cache.publish(work, key)?;
        for old in superseded.iter().filter(|old| **old != dir) {
            fsutil::remove_all(old)?;
        }
        manifest::check(&dir).map_err(|why| match why.kind() {
            Kind::Assets => Error::assets(format!(
                "the node image {} is not usable: {why}",
                dir.display()
            )),
            _ => why,
        })
    }

    /// Returns the folders of all images made from `inputs`, whatever came out.
    fn made_from(&self, inputs: &str) -> Result<Vec<PathBuf>> {
        self.cache.entries(&format!("{inputs}-"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::manifest::tests::fake;
    use super::*;
    use crate::progress::Step;

    fn store() -> (tempfile::TempDir, Store) {
        let cache = tempfile::tempdir().unwrap();
        let store = Store::open(cache.path()).unwrap();
        (cache, store)
    }

    fn names(store: &Store) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&store.cache.root)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Keeps what is said to the user.
    #[derive(Default)]
    struct Said(Mutex<Vec<String>>);

    impl Progress for Said {
        fn step(&self, title: &str) -> Step {
            Silent.step(title)
        }
        fn note(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
        fn warn(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }

    #[test]
    fn an_image_is_made_once_and_found_after_that() {
        let (_cache, store) = store();
        assert_eq!(store.find("i", &Silent).unwrap(), None);
        let made = store
            .provide("i", false, &Silent, |dir| {
                fake(dir, "a");
                Ok(())
            })
            .unwrap();
        assert_eq!(store.find("i", &Silent).unwrap().as_ref(), Some(&made));
        let again = store
            .provide("i", false, &Silent, |_| unreachable!())
            .unwrap();
        assert_eq!(again, made);
        assert_eq!(names(&store), [made.key.as_str(), "i.lock"]);
        // Another recipe's name is not taken for this one's.
        assert_eq!(store.find("in", &Silent).unwrap(), None);
    }

    #[test]
    fn a_new_build_replaces_the_old_image_by_one_with_another_key() {
        let (_cache, store) = store();
        let old = store
            .provide("i", false, &Silent, |dir| {
                fake(dir, "a");
                Ok(())
            })
            .unwrap();
        let new = store
            .provide("i", true, &Silent, |dir| {
                fake(dir, "b");
                Ok(())
            })
            .unwrap();
        assert_ne!(old.key, new.key);
        assert_eq!(names(&store), [new.key.as_str(), "i.lock"]);
        let same = store
            .provide("i", true, &Silent, |dir| {
                fake(dir, "b");
                Ok(())
            })
            .unwrap();
        assert_eq!(same, new);
    }

    #[test]
    fn a_failed_build_leaves_the_old_image_and_no_rest() {
        let (_cache, store) = store();
        let old = store
            .provide("i", false, &Silent, |dir| {
                fake(dir, "a");
                Ok(())
            })
            .unwrap();
        let failed = store.provide("i", true, &Silent, |dir| {
            fake(dir, "b");
            Err(Error::assets("no mirror"))
        });
        assert_eq!(failed.unwrap_err().message(), "no mirror");
        let incomplete = store.provide("i", true, &Silent, |_| Ok(()));
        assert!(incomplete.is_err());
        assert_eq!(store.find("i", &Silent).unwrap(), Some(old.clone()));
        assert_eq!(names(&store), [old.key.as_str(), "i.lock"]);
    }

    #[test]
    fn damage_is_reported_and_repaired() {
        let (_cache, store) = store();
        let image = store
            .provide("i", false, &Silent, |dir| {
                fake(dir, "a");
                Ok(())
            })
            .unwrap();
        fs::write(&image.disk, "cut").unwrap();
        let said = Said::default();
        assert_eq!(store.find("i", &said).unwrap(), None);
        assert!(said.0.lock().unwrap()[0].contains("disk.qcow2 has 3 bytes"));
        let mended = store
            .provide("i", false, &Silent, |dir| {
                fake(dir, "a");
                Ok(())
            })
            .unwrap();
        assert_eq!(mended, image);
        assert_eq!(store.find("i", &Silent).unwrap(), Some(mended));
    }

    #[test]
    fn what_a_killed_process_left_is_removed() {
        let (_cache, store) = store();
        let left = store.cache.root.join(".i.x1.tmp");
        let others = store.cache.root.join(".j.x1.tmp");
        fs::create_dir(&left).unwrap();
        fs::create_dir(&others).unwrap();
        store
            .provide("i", false, &Silent, |dir| {
                fake(dir, "a");
                Ok(())
            })
            .unwrap();
        assert!(!left.exists());
        assert!(others.exists());
    }

    #[test]
    fn of_two_at_once_one_builds_and_the_other_waits() {
        let (_cache, store) = store();
        let built = AtomicUsize::new(0);
        let said = Said::default();
        let images: Vec<NodeImage> = std::thread::scope(|scope| {
            let run = || {
                store.provide("i", false, &said, |dir| {
                    built.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(std::time::Duration::from_millis(300));
                    fake(dir, "a");
                    Ok(())
                })
            };
            let threads = [scope.spawn(run), scope.spawn(run)];
            threads.map(|t| t.join().unwrap().unwrap()).into()
        });
        assert_eq!(built.load(Ordering::SeqCst), 1);
        assert_eq!(images[0], images[1]);
        let said = said.0.lock().unwrap();
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("waiting for it"), "{said:?}");
    }
}
