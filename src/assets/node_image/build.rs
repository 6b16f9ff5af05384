//! Builds the node image on this host by the recipe in `images/node`.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::store::Store;
use super::{NodeImage, manifest};
use crate::assets::recipes;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::progress::{Progress, StepSink};
use crate::tool::{self, Tool};
use crate::units::human_bytes;

/// The recipe's folder in `images/`.
const RECIPE: &str = "node";

/// A build takes a minute; a slow mirror may make it ten.
const DEADLINE: Duration = Duration::from_secs(45 * 60);

/// The room that a build needs at most, in bytes: the system as a tar file, as a raw disk and as
/// qcow2 in the cache, and unpacked in the temporary directory.
const ROOM_CACHE: u64 = 2 << 30;
const ROOM_TEMPORARY: u64 = 1 << 30;

/// A program or file that the recipe uses, and the Debian package it comes in.
const NEEDED_PROGRAMS: [(&str, &str); 7] = [
    ("bash", "bash"),
    ("tar", "tar"),
    ("apt-get", "apt"),
    ("mmdebstrap", "mmdebstrap"),
    ("mke2fs", "e2fsprogs"),
    ("tune2fs", "e2fsprogs"),
    ("qemu-img", "qemu-utils"),
];
const KEYRING: (&str, &str) = (
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "debian-archive-keyring",
);

/// Returns the node image of this kubby's recipe: from the cache, or built if it is not there or
/// `force` is set, which brings the packages up to date. Touches no network when it is there.
///
/// # Errors
/// [`Kind::Preflight`] when the host lacks programs or room for a build; [`Kind::Assets`] when
/// the build fails; [`Kind::Interrupted`] on Ctrl-C.
pub fn build(cache: &Path, force: bool, progress: &dyn Progress) -> Result<NodeImage> {
    let store = Store::open(cache)?;
    let inputs = inputs();
    if !force && let Some(image) = store.find(&inputs, progress)? {
        return Ok(image);
    }
    store.provide(&inputs, force, progress, |dir| {
        let step = progress.step("Build the node image");
        check_host(&store, &Host::this())?;
        // Not in `dir`, so that it outlives a failed build.
        let log = store.cache.root.join(format!("{inputs}.log"));
        run_recipe(dir, &log, step.sink())?;
        let size = std::fs::metadata(dir.join(manifest::DISK)).map_or(0, |m| m.len());
        step.done(human_bytes(size));
        Ok(())
    })
}

/// Names everything that the image depends on, for the cache. The suite, the packages and the
/// options of the file system are all in the recipe.
fn inputs() -> String {
    format!(
        "{}-{}-{}",
        std::env::consts::ARCH,
        manifest::FORMAT,
        &recipes::digest(RECIPE)[..16]
    )
}

fn run_recipe(dir: &Path, log: &Path, sink: std::sync::Arc<dyn StepSink>) -> Result<()> {
    let recipe = tempfile::Builder::new()
        .prefix("recipe.")
        .tempdir_in(dir)
        .context(Kind::Assets, || {
            format!("cannot make a directory in {}", dir.display())
        })?;
    recipes::unpack(RECIPE, recipe.path())?;
    Tool::new("bash", Kind::Assets)
        .arg(recipe.path().join("build.sh"))
        .arg(dir)
        .env("TMPDIR", temporary())
        .log(log)
        .deadline(DEADLINE)
        .run(Some(sink))
        .map_err(|e| match e.kind() {
            Kind::Assets => e
                .with_hint("where the Debian mirror is out of reach, name another one: KUBBY_DEBIAN_MIRROR=http://… kubby start")
                .with_hint("or take an image that was made elsewhere: kubby start --image FILE_OR_URL"),
            // An interruption needs no advice.
            _ => e,
        })?;
    Ok(())
}

/// Returns the folder in which the system is unpacked. Not `/tmp` by default, which is in memory on
/// many hosts.
fn temporary() -> PathBuf {
    std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

/// The facts of a host that a build depends on, so that tests can be other hosts.
struct Host<'a> {
    has: &'a dyn Fn(&str) -> bool,
    root: bool,
    user: String,
    /// `/etc/subuid` and `/etc/subgid`.
    subordinate: [String; 2],
}

impl Host<'_> {
    fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let root = rustix::process::geteuid().is_root();
        Host {
            has: &|name| {
                if name.starts_with('/') {
                    Path::new(name).exists()
                } else {
                    tool::find(name).is_some()
                }
            },
            root,
            // By name, because mmdebstrap looks for the name. Root needs none.
            user: if root {
                "root".to_owned()
            } else {
                Tool::new("id", Kind::Preflight)
                    .arg("-un")
                    .run(None)
                    .map(|out| out.trim().to_owned())
                    .unwrap_or_default()
            },
            subordinate: [read("/etc/subuid"), read("/etc/subgid")],
        }
    }

    /// Returns the names of what is missing and the packages that bring it.
    fn missing(&self) -> Vec<(&'static str, &'static str)> {
        let unprivileged = [("newuidmap", "uidmap"), ("newgidmap", "uidmap")];
        let unprivileged = unprivileged.into_iter().filter(|_| !self.root);
        NEEDED_PROGRAMS
            .into_iter()
            .chain([KEYRING])
            .chain(unprivileged)
            .filter(|(name, _)| !(self.has)(name))
            .collect()
    }

    fn has_subordinate_ids(&self) -> bool {
        self.root
            || self.subordinate.iter().all(|text| {
                text.lines()
                    .any(|line| line.split(':').next() == Some(self.user.as_str()))
            })
    }

    fn check(&self) -> Result<()> {
        let missing = self.missing();
        if !missing.is_empty() {
            let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
            let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
            packages.sort_unstable();
            packages.dedup();
            return Err(Error::preflight(format!(
                "building the node image needs what this host lacks: {}",
                names.join(", ")
            ))
            .with_hint(format!("sudo apt-get install {}", packages.join(" ")))
            .with_hint(
                "or take an image that was made elsewhere: kubby start --image FILE_OR_URL",
            ));
        }
        if !self.has_subordinate_ids() {
            return Err(Error::preflight(format!("the user {} has no subordinate user and group ids, which building the node image without root needs", self.user),
            )
            .with_hint(format!(
                "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {}",
                self.user
            )));
        }
        Ok(())
    }
}

fn check_host(store: &Store, host: &Host<'_>) -> Result<()> {
    host.check()?;
    let (cache, temporary) = (&*store.cache.root, &*temporary());
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
    let same = device(cache) == device(temporary);
    for (path, needed) in needs(cache, temporary, same) {
        check_room(path, needed)?;
    }
    Ok(())
}

/// Returns the folders with the bytes that they need; on one file system both needs add up.
fn needs<'a>(cache: &'a Path, temporary: &'a Path, same: bool) -> Vec<(&'a Path, u64)> {
    if same {
        vec![(cache, ROOM_CACHE + ROOM_TEMPORARY)]
    } else {
        vec![(cache, ROOM_CACHE), (temporary, ROOM_TEMPORARY)]
    }
}

/// Fails unless this user can still write `needed` bytes where `path` is.
pub(super) fn check_room(path: &Path, needed: u64) -> Result<()> {
    let stat = rustix::fs::statvfs(path).context(Kind::Preflight, || {
        format!("cannot ask how much room there is in {}", path.display())
    })?;
    match stat.f_bavail.saturating_mul(stat.f_frsize) {
        free if free < needed => Err(no_room(path, free, needed)),
        _ => Ok(()),
    }
}

/// Returns the error that there is too little room, with what to do.
fn no_room(path: &Path, free: u64, needed: u64) -> Error {
    Error::preflight(format!(
        "too little room in {}: {} free, the node image needs {}",
        path.display(),
        human_bytes(free),
        human_bytes(needed)
    ))
    .with_hint(
        "free some, or name other places: KUBBY_CACHE for the cache, TMPDIR for what is temporary",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::record::sha256_of_file;
    use crate::progress::Silent;

    fn host<'a>(has: &'a dyn Fn(&str) -> bool, root: bool, ids: &str) -> Host<'a> {
        let ids = ids.to_owned();
        Host {
            has,
            root,
            user: "ann".into(),
            subordinate: [ids.clone(), ids],
        }
    }

    #[test]
    fn everything_missing_is_named_at_once() {
        let has = |name: &str| name != "mmdebstrap" && name != "tune2fs" && name != "mke2fs";
        let e = host(&has, true, "").check().unwrap_err();
        assert_eq!(e.kind(), Kind::Preflight);
        assert!(e.message().ends_with("mmdebstrap, mke2fs, tune2fs"), "{e}");
        assert_eq!(e.hints()[0], "sudo apt-get install e2fsprogs mmdebstrap");
    }

    #[test]
    fn an_ordinary_user_needs_more_than_root() {
        let has = |name: &str| !name.starts_with("new");
        host(&has, true, "").check().unwrap();
        let e = host(&has, false, "ann:100000:65536").check().unwrap_err();
        assert_eq!(e.hints()[0], "sudo apt-get install uidmap");
        let all = |_: &str| true;
        host(&all, false, "bob:1:2\nann:100000:65536\n")
            .check()
            .unwrap();
        for ids in ["", "anna:100000:65536", "bob:1:2"] {
            let e = host(&all, false, ids).check().unwrap_err();
            assert!(
                e.hints()[0].starts_with("sudo usermod --add-subuids"),
                "{ids}: {e}"
            );
        }
    }

    #[test]
    fn room_adds_up_on_one_file_system() {
        let (a, b) = (Path::new("/a"), Path::new("/b"));
        assert_eq!(needs(a, b, true), [(a, ROOM_CACHE + ROOM_TEMPORARY)]);
        assert_eq!(needs(a, b, false), [(a, ROOM_CACHE), (b, ROOM_TEMPORARY)]);
        let e = no_room(a, 1 << 30, 2 << 30);
        assert!(e.message().contains("/a: 1.00 GiB free"), "{e}");
        check_room(Path::new("/"), 1).unwrap();
        assert!(check_room(Path::new("/"), u64::MAX).is_err());
    }

    #[test]
    fn the_recipe_is_embedded_and_names_the_cache_entry() {
        let files = recipes::files(RECIPE);
        for name in [
            "build.sh",
            "configure.sh",
            "packages.txt",
            "dpkg.cfg",
            "root/usr/lib/kubby/seed",
        ] {
            assert!(files.iter().any(|(path, _)| path == name), "{name}");
        }
        let inputs = inputs();
        assert!(inputs.starts_with(std::env::consts::ARCH), "{inputs}");
        assert!(
            inputs
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)),
            "{inputs}"
        );
    }

    #[test]
    fn a_cached_image_is_found_without_building() {
        let cache = tempfile::tempdir().unwrap();
        let store = Store::open(cache.path()).unwrap();
        let made = store
            .provide(&inputs(), false, &Silent, |dir| {
                manifest::tests::fake(dir, "a");
                Ok(())
            })
            .unwrap();
        assert_eq!(build(cache.path(), false, &Silent).unwrap(), made);
    }

    /// The real thing: a minute, the network and 3 GiB of disk. `cargo test -- --ignored`.
    #[test]
    #[ignore = "downloads packages and builds a whole image"]
    fn the_recipe_builds_an_image_that_prebuilt_takes() {
        let cache = tempfile::tempdir().unwrap();
        let image = build(cache.path(), false, &Silent).unwrap();
        let file = cache.path().join("node.qcow2.gz");
        let sha256 = super::super::export(&image, &file, true, &Silent).unwrap();
        let other = tempfile::tempdir().unwrap();
        let source = file.to_str().unwrap();
        let taken = super::super::prebuilt(source, Some(&sha256), other.path(), &Silent).unwrap();
        assert_eq!(taken.virtual_size, image.virtual_size);
        for (a, b) in [
            (&taken.disk, &image.disk),
            (&taken.kernel, &image.kernel),
            (&taken.initrd, &image.initrd),
        ] {
            assert_eq!(sha256_of_file(a).unwrap(), sha256_of_file(b).unwrap());
        }
    }
}
