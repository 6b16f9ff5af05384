//! Builds the components from Go modules, where only module proxies can be reached.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::catalog::{KUBERNETES_PROGRAMS, PAUSE_VERSION};
use super::go::{self, COMPLETE, Go, GoFailure, Job, READ, classify, explain};
use super::stage::Stage;
use super::{extras, gomod, oci, seed};
use crate::assets::version::KubernetesVersion;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::progress::Progress;

/// Builds everything into the stage.
pub(super) fn stage(
    version: KubernetesVersion,
    stage: &mut Stage,
    logs: &Path,
    progress: &dyn Progress,
) -> Result<()> {
    let step = progress.step(&format!("Build the Kubernetes {version} components"));
    go::in_step(version, stage, logs, step, |go, stage| {
        let mode = require(version, go)?;
        let extras = extras::ALL.iter().collect::<Vec<_>>();
        extras::prepare(&extras, go)?;
        go.build_all(&jobs(version, mode, stage))?;
        link("etcd", &stage.bin.join("etcdctl"))?;
        for name in KUBERNETES_PROGRAMS {
            if name != "kubectl" {
                link("kube", &stage.bin.join(name))?;
            }
        }
        for name in ["pause", "coredns"] {
            let path = stage.work.join(name);
            oci::pack(&oci::Program::alone(&path), name, stage)?;
        }
        extras::pack(&extras, stage)?;
        seed::make(stage, Arc::clone(&go.sink))
    })
}

/// Returns what to build, in order: first the smallest, which shows within seconds where the set-up
/// is wrong; then what takes longest, so that nothing is left to wait for it.
fn jobs(version: KubernetesVersion, mode: &'static str, stage: &Stage) -> Vec<Job> {
    let kubernetes = |package, program: &str| Job {
        module: "kube",
        package,
        out: stage.bin.join(program),
        stamp: kubernetes_stamp(version),
        tags: "",
        mode,
    };
    let other = |module, out, stamp| Job {
        module,
        package: ".",
        out,
        stamp,
        tags: "",
        mode: READ,
    };
    let pause = format!("-X main.version={PAUSE_VERSION}");
    let mut jobs = vec![
        other("pause", stage.work.join("pause"), pause),
        kubernetes(".", "kube"),
        other("etcd", stage.bin.join("etcd"), String::new()),
        other("coredns", stage.work.join("coredns"), String::new()),
    ];
    // These share packages with Kubernetes, which by now are compiled.
    jobs.extend(extras::ALL.iter().map(|extra| extra.job(stage)));
    jobs.push(seed::job(stage));
    jobs.push(kubernetes("./kubectl", "kubectl"));
    jobs
}

/// Makes the Kubernetes module, the only one whose version the user chooses, require `version`, and
/// returns the mode to build it with.
fn require(version: KubernetesVersion, go: &Go) -> Result<&'static str> {
    let path = go.source.join("kube/go.mod");
    let fail = || format!("cannot prepare the build of Kubernetes {version}");
    let recipe = fs::read_to_string(&path).context(Kind::Assets, fail)?;
    if gomod::kubernetes_version(&recipe) == Some(&version.to_string()) {
        return Ok(READ);
    }
    let answer = go
        .tool("kube", "module")?
        .args([
            "mod",
            "download",
            "-json",
            &format!("k8s.io/kubernetes@{version}"),
        ])
        .run(Some(Arc::clone(&go.sink)))
        .map_err(|e| explain_missing(version, go, e))?;
    let answer: serde_json::Value = serde_json::from_str(&answer).context(Kind::Assets, fail)?;
    let upstream = answer["GoMod"].as_str().unwrap_or_default();
    let upstream = fs::read_to_string(upstream).context(Kind::Assets, fail)?;
    let derived = gomod::derive("kubby.dev/kube", &upstream, version).ok_or_else(|| {
        Error::assets(fail()).with_detail(
            "its go.mod",
            "replaces no module by a folder of ./staging/src",
        )
    })?;
    fs::write(&path, derived).context(Kind::Assets, fail)?;
    Ok(COMPLETE)
}

/// Explains whether the version or the network made `go mod download` fail.
fn explain_missing(version: KubernetesVersion, go: &Go, error: Error) -> Error {
    if error.kind() == Kind::Interrupted || classify(&error) != GoFailure::Missing {
        return explain(
            error,
            &format!("cannot get Kubernetes {version} as Go module"),
        );
    }
    let message = format!("Kubernetes {version} does not exist, or at least not as a Go module");
    let known = go
        .tool("kube", "versions")
        .and_then(|go| {
            go.args(["list", "-m", "-versions", "k8s.io/kubernetes"])
                .deadline(Duration::from_secs(60))
                .run(None)
        })
        .unwrap_or_default();
    let known = same_minor(&known, version);
    let explained = explain(error, &message);
    if known.is_empty() {
        return explained.with_hint("https://kubernetes.io/releases lists the versions");
    }
    explained.with_hint(format!(
        "versions that can be built are {}",
        known.join(", ")
    ))
}

/// Returns the versions of the same minor in the answer of `go list -m -versions`.
fn same_minor(list: &str, version: KubernetesVersion) -> Vec<String> {
    list.split_whitespace()
        .filter_map(|word| word.parse::<KubernetesVersion>().ok())
        .filter(|known| known.minor == version.minor)
        .map(|known| known.to_string())
        .collect()
}

/// Returns the version options of the programs, without a date of the build: equal inputs give
/// equal programs.
fn kubernetes_stamp(version: KubernetesVersion) -> String {
    let minor = version.minor.to_string();
    let version = version.to_string();
    let values = [
        ("gitVersion", version.as_str()),
        ("gitMajor", "1"),
        ("gitMinor", &minor),
        ("gitCommit", "unknown"),
        ("gitTreeState", "clean"),
        ("buildDate", "1970-01-01T00:00:00Z"),
    ];
    [
        "k8s.io/component-base/version",
        "k8s.io/client-go/pkg/version",
    ]
    .iter()
    .flat_map(|package| values.map(|(name, value)| format!("-X {package}.{name}={value}")))
    .collect::<Vec<_>>()
    .join(" ")
}

fn link(target: &str, path: &Path) -> Result<()> {
    std::os::unix::fs::symlink(target, path)
        .context(Kind::Assets, || format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_versions_of_the_same_minor_are_named() {
        let list = "k8s.io/kubernetes v1.13.0 v1.36.1 v1.36.3 v1.36.4-rc.0 v1.37.2\n";
        let version = KubernetesVersion {
            minor: 36,
            patch: 99,
        };
        assert_eq!(same_minor(list, version), ["v1.36.1", "v1.36.3"]);
    }

    #[test]
    fn the_stamp_names_version_and_minor() {
        let stamp = kubernetes_stamp(KubernetesVersion {
            minor: 36,
            patch: 3,
        });
        assert!(stamp.contains("-X k8s.io/component-base/version.gitVersion=v1.36.3 "));
        assert!(stamp.contains("-X k8s.io/client-go/pkg/version.gitMinor=36 "));
    }
}
