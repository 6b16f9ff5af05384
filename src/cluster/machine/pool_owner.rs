//! The owner of the storage pool that has a home's name.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::fsutil;
use crate::remote;
use crate::store::Store;

/// The owner of a storage pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PoolOwner {
    /// There is no such pool.
    Nobody,
    /// It has this home's mark.
    Us,
    /// It has no mark: it was just created, or by an earlier version.
    Unmarked,
    /// It is another's.
    Other(OtherPool),
}

/// The reason why a pool with a home's name is another's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OtherPool {
    /// It is in another folder than this home's pool would be.
    Elsewhere { found: PathBuf, expected: PathBuf },
    /// It has the mark of another user, who has this ID.
    User(String),
    /// It has the mark of another home.
    Home(PathBuf),
    /// It has no mark, and the disk of another home's domain is in it.
    HasDisk { home: PathBuf, domain: String },
}

impl fmt::Display for OtherPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OtherPool::Elsewhere { found, expected } => write!(
                f,
                "its folder is {}, not {}",
                found.display(),
                expected.display()
            ),
            OtherPool::User(id) => write!(f, "it belongs to the user with the ID {id}"),
            OtherPool::Home(home) => write!(f, "it belongs to the kubby home {}", home.display()),
            OtherPool::HasDisk { home, domain } => write!(
                f,
                "the kubby home {} has the disk of `{domain}` in it",
                home.display()
            ),
        }
    }
}

impl OtherPool {
    /// Returns the error for a pool that is another's, with the cause and the remedy.
    pub(super) fn refuse(&self, store: &Store, pool: &str) -> Error {
        let error = Error::state(format!(
            "the storage pool `{pool}` is not this home's: {self}"
        ));
        match self {
            OtherPool::Home(_) | OtherPool::HasDisk { .. } => error.with_hint(store.home_reason()),
            _ => error,
        }
        .with_hint(self.remedy())
    }

    /// Returns what to do about it.
    pub(crate) fn remedy(&self) -> String {
        match self {
            OtherPool::Elsewhere { .. } => {
                "if the home was moved, move it back; else choose another one with KUBBY_HOME"
                    .to_owned()
            }
            OtherPool::User(_) => {
                "run the command as that user, or choose another home with KUBBY_HOME".to_owned()
            }
            OtherPool::Home(home) | OtherPool::HasDisk { home, .. } => format!(
                "KUBBY_HOME={} kubby list shows the clusters of that home",
                remote::quote(&home.display().to_string())
            ),
        }
    }
}

/// Reads the mark of a pool; an empty text is not a mark.
pub(super) fn read_mark(text: &str, store: &Store) -> PoolOwner {
    let mut lines = text.trim_end_matches('\0').lines();
    let (Some(home), Some(user)) = (lines.next(), lines.next()) else {
        return PoolOwner::Unmarked;
    };
    if user != store.owner().to_string() {
        return PoolOwner::Other(OtherPool::User(user.to_owned()));
    }
    match fsutil::same_place(Path::new(home), store.home()) {
        true => PoolOwner::Us,
        false => PoolOwner::Other(OtherPool::Home(home.into())),
    }
}

/// Returns the mark of a home's pool.
pub(super) fn mark(store: &Store) -> String {
    format!("{}\n{}\n", store.home().display(), store.owner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_mark_is_the_homes_however_it_is_written_and_of_its_user_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path(), dir.path());
        let (home, user) = (store.home().display().to_string(), store.owner());
        let other = |why| PoolOwner::Other(why);
        for (text, owner) in [
            (mark(&store), PoolOwner::Us),
            (format!("{home}/\n{user}\n"), PoolOwner::Us),
            (format!("{home}\n{user}\n\0\0\0"), PoolOwner::Us),
            (String::new(), PoolOwner::Unmarked),
            (format!("{home}\n"), PoolOwner::Unmarked),
            (
                format!("{home}\n{}\n", user + 1),
                other(OtherPool::User((user + 1).to_string())),
            ),
            (
                format!("/elsewhere\n{user}\n"),
                other(OtherPool::Home("/elsewhere".into())),
            ),
        ] {
            assert_eq!(read_mark(&text, &store), owner, "{text:?}");
        }
    }

    #[test]
    fn a_refusal_has_a_cause_and_a_remedy_and_never_removes_the_pool() {
        let store = Store::at(Path::new("/h"), Path::new("/c"));
        let home = || PathBuf::from("/a b");
        for (why, words) in [
            (
                OtherPool::Elsewhere {
                    found: "/x".into(),
                    expected: "/y".into(),
                },
                ["its folder is /x, not /y", "move it back"],
            ),
            (OtherPool::User("7".into()), ["the ID 7", "as that user"]),
            (
                OtherPool::Home(home()),
                ["another KUBBY_HOME: /h", "KUBBY_HOME='/a b' kubby list"],
            ),
            (
                OtherPool::HasDisk {
                    home: home(),
                    domain: "kubby-dev".into(),
                },
                ["has the disk of `kubby-dev`", "KUBBY_HOME='/a b'"],
            ),
        ] {
            let error = why.refuse(&store, "kubby-1");
            let text = format!("{} {:?}", error.message(), error.hints());
            assert_eq!(error.kind(), Kind::State);
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
            assert!(!text.contains("virsh"), "{text}");
        }
    }
}
