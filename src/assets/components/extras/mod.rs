//! The programs and images that Kubernetes does not come with, but nodes, add-ons and kubby's own
//! commands need. They are always built from Go modules, whatever Kubernetes is made from: most of
//! their projects publish no programs, or none with checksums, the others larger ones, and Go checks
//! what it builds by go.sum.

mod list;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

pub(super) use self::list::ALL;
use super::go::{self, Go, Job, READ};
use super::stage::Stage;
use super::{cni, oci, seed};
use crate::assets::recipes;
use crate::assets::version::KubernetesVersion;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::progress::Progress;
use crate::units::hex;

/// One program.
#[derive(Debug)]
pub(super) struct Extra {
    /// Its folder in the recipe; for [`Product::Image`] also the name of the image.
    module: &'static str,
    package: &'static str,
    pub program: &'static str,
    /// Options of the linker, which write the version into the program.
    stamp: &'static str,
    /// Tags of the build, each with a comma before it, which leave out what no node needs.
    tags: &'static str,
    /// Other paths in the volume that lead to it: it does what the name that it is called by says.
    pub names: &'static [&'static str],
    pub product: Product,
}

/// The form of a program in the volume.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Product {
    /// A program in `/bin`.
    Program,
    /// The archive of an image that runs it, in `/images`.
    Image {
        /// As in [`oci::Program`].
        arguments: &'static [&'static str],
        environment: &'static [&'static str],
        /// Paths in the image, and in the recipe's folder.
        files: &'static [(&'static str, &'static str)],
    },
}

impl Extra {
    /// Returns the job that builds it.
    pub(super) fn job(&self, stage: &Stage) -> Job {
        Job {
            module: self.module,
            package: self.package,
            out: self.built(stage),
            stamp: self.stamp.to_owned(),
            tags: self.tags,
            mode: READ,
        }
    }

    /// Returns the program's place on the way into the volume.
    fn built(&self, stage: &Stage) -> PathBuf {
        match self.product {
            Product::Program => stage.bin.join(self.program),
            Product::Image { .. } => stage.work.join(self.program),
        }
    }

    /// Makes its other names, as links.
    fn link_names(&self, stage: &Stage) -> Result<()> {
        for name in self.names {
            let path = stage.root().join(name);
            let fail = || format!("cannot write {}", path.display());
            fs::create_dir_all(path.parent().unwrap_or(&path)).context(Kind::Assets, fail)?;
            symlink(format!("../bin/{}", self.program), &path).context(Kind::Assets, fail)?;
        }
        Ok(())
    }

    /// Takes a user's programs for its other names where they are programs of their own.
    fn copy_names(&self, dir: &Path, stage: &Stage) -> Result<()> {
        for name in self.names {
            let (from, to) = (dir.join(name), stage.root().join(name));
            if from.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
                fs::remove_file(&to)
                    .and_then(|()| fs::copy(&from, &to))
                    .context(Kind::Assets, || format!("cannot copy {}", from.display()))?;
            }
        }
        Ok(())
    }

    /// Returns its path in a user's folder, if it is there.
    fn in_folder(&self, dir: &Path) -> Option<PathBuf> {
        let archive = dir.join(format!("images/{}.tar", self.module));
        if self.product != Product::Program && archive.is_file() {
            return Some(archive);
        }
        Some(dir.join("bin").join(self.program)).filter(|path| path.is_file())
    }
}

/// Changes when what they are built from does.
pub(super) fn digest() -> String {
    let mut hash = Sha256::new();
    for extra in &ALL {
        let recipe = recipes::digest(&format!("components/{}", extra.module));
        hash.update(format!("{extra:?} {recipe}\n"));
    }
    hash.update(recipes::digest(&format!("components/{}", seed::MODULE)));
    hex(&hash.finalize())
}

/// Returns those that are not in a folder with `bin` and `images`, and therefore must be built.
pub(super) fn missing_in(dir: &Path) -> Vec<&'static Extra> {
    ALL.iter()
        .filter(|extra| extra.in_folder(dir).is_none())
        .collect()
}

/// Returns the version of the Go that will build `extras`, if there are any.
///
/// # Errors
/// [`Kind::Assets`] without Go.
pub(super) fn go_version(extras: &[&Extra]) -> Result<Option<String>> {
    if extras.is_empty() {
        return Ok(None);
    }
    go::version().map(Some).map_err(|e| no_go(extras, e))
}

/// Puts in front of the error what Go is needed for.
fn no_go(extras: &[&Extra], error: Error) -> Error {
    if error.kind() == Kind::Interrupted {
        return error;
    }
    let names: Vec<&str> = extras.iter().map(|extra| extra.program).collect();
    Error::assets(format!(
        "cannot build {}: {}",
        names.join(", "),
        error.message()
    ))
    .with_hint("install Go 1.26 or newer: https://go.dev/dl")
    .with_hint("or bring them along with --components DIR, see docs/components.md")
}

/// Takes what a folder has of them into the stage.
pub(super) fn copy(dir: &Path, stage: &mut Stage) -> Result<()> {
    for extra in &ALL {
        match extra.in_folder(dir) {
            None => {}
            Some(from) if from.starts_with(dir.join("images")) => {
                oci::copy(&from, extra.module, stage)?;
            }
            Some(from) => {
                fs::copy(&from, extra.built(stage))
                    .context(Kind::Assets, || format!("cannot copy {}", from.display()))?;
                pack(&[extra], stage)?;
                extra.copy_names(dir, stage)?;
            }
        }
    }
    Ok(())
}

/// Builds `extras` into the stage of a set for this version of Kubernetes.
pub(super) fn build(
    extras: &[&Extra],
    version: KubernetesVersion,
    stage: &mut Stage,
    logs: &Path,
    progress: &dyn Progress,
) -> Result<()> {
    if extras.is_empty() {
        return Ok(());
    }
    let step = progress.step("Build the programs of the add-ons");
    go::in_step(version, stage, logs, step, |go, stage| {
        let mut jobs: Vec<Job> = extras.iter().map(|extra| extra.job(stage)).collect();
        jobs.push(seed::job(stage));
        prepare(extras, go)?;
        go.build_all(&jobs)?;
        pack(extras, stage)?;
        seed::make(stage, Arc::clone(&go.sink))
    })
}

/// Completes the sources of `extras`, unpacked from the recipes.
pub(super) fn prepare(extras: &[&Extra], go: &Go) -> Result<()> {
    if extras.iter().any(|extra| extra.module == cni::MODULE) {
        cni::copy_plugins(go)?;
    }
    Ok(())
}

/// Makes the images and the other names of those programs that have been built.
pub(super) fn pack(extras: &[&Extra], stage: &mut Stage) -> Result<()> {
    for extra in extras {
        extra.link_names(stage)?;
        let Product::Image {
            arguments,
            environment,
            files,
        } = extra.product
        else {
            continue;
        };
        let program = oci::Program {
            path: &extra.built(stage),
            arguments,
            environment,
            files,
        };
        oci::pack(&program, extra.module, stage)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_program_has_its_recipe_and_every_image_its_name() {
        for extra in &ALL {
            let recipe = recipes::files(&format!("components/{}", extra.module));
            for name in ["go.mod", "go.sum"] {
                assert!(recipe.iter().any(|(path, _)| path == name), "{extra:?}");
            }
            let named = super::super::catalog::IMAGES
                .iter()
                .any(|(n, _)| *n == extra.module);
            assert_eq!(named, extra.product != Product::Program, "{extra:?}");
            if let Product::Image { files, .. } = extra.product {
                for (_, from) in files {
                    assert!(recipe.iter().any(|(path, _)| path == from), "{extra:?}");
                }
            }
        }
    }

    #[test]
    fn versions_are_the_same_in_recipes_programs_and_images() {
        for (module, path, version) in [
            ("buildkit", "github.com/moby/buildkit", "v0.34.2"),
            ("cni", "github.com/containernetworking/plugins", "v1.10.0"),
            (
                "containerd",
                "github.com/containerd/containerd/v2",
                "v2.4.2",
            ),
            ("crictl", "sigs.k8s.io/cri-tools", "v1.36.0"),
            ("metrics-server", "sigs.k8s.io/metrics-server", "v0.9.0"),
            (
                "registry",
                "github.com/distribution/distribution/v3",
                "v3.1.2",
            ),
            ("policies", "sigs.k8s.io/kube-network-policies", "v0.8.0"),
            ("storage", "", "0.1.0"),
        ] {
            let files = recipes::files(&format!("components/{module}"));
            let (_, go_mod) = files.iter().find(|(path, _)| path == "go.mod").unwrap();
            let required = format!("{path} {version}");
            let go_mod = String::from_utf8_lossy(go_mod);
            assert!(path.is_empty() || go_mod.contains(&required), "{required}");
            for extra in ALL.iter().filter(|extra| extra.module == module) {
                assert!(extra.stamp.ends_with(&format!("={version}")), "{extra:?}");
            }
            if let Ok(reference) = super::super::catalog::reference(module) {
                let tag = reference.rsplit(':').next().unwrap();
                assert_eq!(tag.trim_start_matches('v'), version.trim_start_matches('v'));
            }
        }
    }

    /// Packages that they share with Kubernetes or containerd are compiled twice otherwise, for minutes.
    #[test]
    fn what_is_shared_is_of_the_same_version() {
        let versions = |module: &str| -> BTreeMap<String, String> {
            let files = recipes::files(&format!("components/{module}"));
            let (_, go_mod) = files.iter().find(|(path, _)| path == "go.mod").unwrap();
            let go_mod = String::from_utf8_lossy(go_mod).into_owned();
            let required = go_mod.split("exclude (").next().unwrap();
            let words = required.lines().map(|line| line.split_whitespace());
            words
                .filter_map(|mut words| Some((words.next()?.into(), words.next()?.into())))
                .filter(|(_, version): &(String, String)| {
                    version.starts_with('v') && version != "v0.0.0"
                })
                .collect()
        };
        for (whole, modules) in [
            (
                "kube",
                ["crictl", "metrics-server", "policies", "storage"].as_slice(),
            ),
            ("containerd", ["buildkit", seed::MODULE].as_slice()),
        ] {
            let whole = versions(whole);
            for module in modules {
                let own = versions(module);
                let shared = own.iter().filter(|(name, _)| whole.contains_key(*name));
                assert!(shared.clone().count() > 20, "{module}");
                for (name, version) in shared {
                    assert_eq!(*version, whole[name], "{module}: {name}");
                }
            }
        }
    }

    #[test]
    fn without_go_the_error_says_what_for_and_what_to_do() {
        let missing = crate::tool::Tool::new("kubby-no-such-go", Kind::Assets)
            .run(None)
            .unwrap_err();
        let crictl = ALL.iter().find(|extra| extra.program == "crictl").unwrap();
        let error = no_go(&[crictl], missing);
        assert_eq!(error.kind(), Kind::Assets);
        let text = error.message();
        assert!(text.starts_with("cannot build crictl: ") && text.contains("not installed"));
        assert!(error.hints()[0].contains("Go 1.26") && error.hints()[1].contains("--components"));
    }

    #[test]
    fn what_a_folder_has_need_not_be_built() {
        let dir = tempfile::tempdir().unwrap();
        let missing = || -> Vec<&str> {
            missing_in(dir.path())
                .iter()
                .map(|extra| extra.program)
                .collect()
        };
        assert_eq!(missing().len(), ALL.len());
        for folder in ["bin", "images"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("images/storage.tar"), "").unwrap();
        // A program is not an archive.
        fs::write(dir.path().join("images/crictl.tar"), "").unwrap();
        assert!(missing().contains(&"crictl") && !missing().contains(&"kubby-storage"));
        fs::write(dir.path().join("bin/crictl"), "").unwrap();
        assert!(!missing().contains(&"crictl"));
    }
}
