//! Builds the components from Go modules, where only module proxies can be reached.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache::Stage;
use super::manifest::Images;
use super::{KUBERNETES_PROGRAMS, PAUSE_VERSION, gomod, oci};
use crate::assets::recipes;
use crate::assets::version::KubernetesVersion;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::progress::{Progress, StepSink};
use crate::tool::Tool;

/// On two slow cores the biggest program takes a quarter of this.
const DEADLINE: Duration = Duration::from_secs(3600);

/// Tells whether this host can build, by the version of its Go.
///
/// # Errors
/// [`Kind::Assets`] where there is no Go.
pub(super) fn go_version() -> Result<String> {
    let version = Tool::new("go", Kind::Assets)
        .args(["env", "GOVERSION"])
        .deadline(Duration::from_secs(60))
        .run(None)?;
    Ok(version.trim().to_owned())
}

/// Builds everything into the stage.
pub(super) fn stage(
    version: KubernetesVersion,
    stage: &Stage,
    logs: &Path,
    progress: &dyn Progress,
) -> Result<Images> {
    let step = progress.step(&format!("Build the Kubernetes {version} components"));
    let started = Instant::now();
    let source = stage.work.join("source");
    recipes::unpack("components", &source)?;
    let builder = Builder {
        version,
        source,
        logs,
        sink: step.sink(),
    };
    let mode = builder.choose_kubernetes()?;
    let stamp = kubernetes_stamp(version);
    let program = |name: &str| stage.bin.join(name);

    // The small ones first: where the set-up is wrong, that shows within seconds.
    let pause = stage.work.join("pause");
    builder.go_build(
        "pause",
        ".",
        &pause,
        &format!("-X main.version={PAUSE_VERSION}"),
        READ,
    )?;
    builder.go_build("etcd", ".", &program("etcd"), "", READ)?;
    link("etcd", &program("etcdctl"))?;
    builder.go_build("coredns", ".", &program("coredns"), "", READ)?;
    builder.go_build("kube", "./kubectl", &program("kubectl"), &stamp, mode)?;
    builder.go_build("kube", ".", &program("kube"), &stamp, mode)?;
    for name in KUBERNETES_PROGRAMS
        .iter()
        .filter(|name| **name != "kubectl")
    {
        link("kube", &program(name))?;
    }

    let images = super::image_names();
    let arch = super::arch()?;
    oci::write_program_image(&stage.images.join("pause.tar"), &images.pause, arch, &pause)?;
    let coredns = program("coredns");
    oci::write_program_image(
        &stage.images.join("coredns.tar"),
        &images.coredns,
        arch,
        &coredns,
    )?;
    step.done(format!("in {} s", started.elapsed().as_secs()));
    Ok(images)
}

/// The committed go.mod and go.sum say it all.
const READ: &str = "-mod=readonly";
/// The go.mod is derived: Go completes it, and checks what is new against the checksum database.
const COMPLETE: &str = "-mod=mod";

struct Builder<'a> {
    version: KubernetesVersion,
    source: PathBuf,
    logs: &'a Path,
    sink: Arc<dyn StepSink>,
}

impl Builder<'_> {
    fn go(&self, module: &str, log: &str) -> Result<Tool> {
        Ok(Tool::new("go", Kind::Assets)
            .dir(self.source.join(module))
            .env("CGO_ENABLED", "0")
            .env("GOOS", "linux")
            .env("GOARCH", super::arch()?)
            .env("GOWORK", "off")
            .log(self.logs.join(format!("{}-{log}.log", self.version)))
            .deadline(DEADLINE))
    }

    fn go_build(
        &self,
        module: &str,
        package: &str,
        out: &Path,
        stamp: &str,
        mode: &str,
    ) -> Result<()> {
        let name = out.file_name().unwrap_or_default().to_string_lossy();
        self.go(module, &name)?
            .args([
                "build",
                "-v",
                "-trimpath",
                "-buildvcs=false",
                "-tags=grpcnotrace",
                mode,
            ])
            .arg(format!("-ldflags=-s -w {stamp}"))
            .arg("-o")
            .arg(out)
            .arg(package)
            .run(Some(Arc::clone(&self.sink)))
            .map_err(|e| explain(e, &format!("cannot build {name}")))?;
        Ok(())
    }

    /// Makes the Kubernetes module require the version asked for; answers with the mode to build.
    fn choose_kubernetes(&self) -> Result<&'static str> {
        let version = self.version;
        let path = self.source.join("kube/go.mod");
        let fail = || format!("cannot prepare the build of Kubernetes {version}");
        let recipe = fs::read_to_string(&path).context(Kind::Assets, fail)?;
        if gomod::kubernetes_version(&recipe) == Some(&version.to_string()) {
            return Ok(READ);
        }
        let answer = self
            .go("kube", "module")?
            .args([
                "mod",
                "download",
                "-json",
                &format!("k8s.io/kubernetes@{version}"),
            ])
            .run(Some(Arc::clone(&self.sink)))
            .map_err(|e| self.explain_missing(e))?;
        let answer: serde_json::Value =
            serde_json::from_str(&answer).context(Kind::Assets, fail)?;
        let upstream = answer["GoMod"].as_str().unwrap_or_default();
        let upstream = fs::read_to_string(upstream).context(Kind::Assets, fail)?;
        let derived = gomod::derive("kubby.dev/kube", &upstream, version).ok_or_else(|| {
            Error::new(Kind::Assets, fail()).with_detail(
                "its go.mod",
                "replaces no module by a folder of ./staging/src",
            )
        })?;
        fs::write(&path, derived).context(Kind::Assets, fail)?;
        Ok(COMPLETE)
    }

    /// `go mod download` failed: says whether the version is to blame or the network.
    fn explain_missing(&self, error: Error) -> Error {
        if error.kind() == Kind::Interrupted || classify(&error) != GoFailure::Missing {
            return explain(
                error,
                &format!("cannot get Kubernetes {} as Go module", self.version),
            );
        }
        let message = format!(
            "Kubernetes {} does not exist, or at least not as a Go module",
            self.version
        );
        let known = self
            .go("kube", "versions")
            .and_then(|go| {
                go.args(["list", "-m", "-versions", "k8s.io/kubernetes"])
                    .deadline(Duration::from_secs(60))
                    .run(None)
            })
            .unwrap_or_default();
        let known = same_minor(&known, self.version);
        let explained = explain(error, &message);
        if known.is_empty() {
            return explained.with_hint("https://kubernetes.io/releases lists the versions");
        }
        explained.with_hint(format!(
            "versions that can be built are {}",
            known.join(", ")
        ))
    }
}

/// Puts what kubby wanted in front of what Go said.
fn explain(error: Error, message: &str) -> Error {
    if error.kind() == Kind::Interrupted {
        return error;
    }
    let unreachable = classify(&error) == GoFailure::Unreachable;
    let message = if unreachable {
        format!("{message}: the Go module proxy cannot be reached")
    } else {
        message.to_owned()
    };
    let mut out = Error::new(error.kind(), message);
    for (title, text) in error.details() {
        out = out.with_detail(title, text);
    }
    for hint in error.hints() {
        out = out.with_hint(hint);
    }
    if unreachable {
        out = out.with_hint(
            "check the network and GOPROXY, or bring the components along with --components DIR",
        );
    }
    out.with_source(error)
}

#[derive(Debug, PartialEq, Eq)]
enum GoFailure {
    Missing,
    Unreachable,
    Other,
}

fn classify(error: &Error) -> GoFailure {
    let output: String = error
        .details()
        .iter()
        .map(|(_, text)| text.as_str())
        .collect();
    let has = |needles: &[&str]| needles.iter().any(|needle| output.contains(needle));
    if has(&[
        "dial tcp",
        "no such host",
        "connection refused",
        "i/o timeout",
        "handshake timeout",
        "network is unreachable",
        "lookup disabled",
    ]) {
        GoFailure::Unreachable
    } else if has(&[
        "unknown revision",
        "not available",
        "404 Not Found",
        "410 Gone",
        "not found",
    ]) {
        GoFailure::Missing
    } else {
        GoFailure::Other
    }
}

/// The versions of the same minor in the answer of `go list -m -versions`.
fn same_minor(list: &str, version: KubernetesVersion) -> Vec<String> {
    list.split_whitespace()
        .filter_map(|word| word.parse::<KubernetesVersion>().ok())
        .filter(|known| known.minor == version.minor)
        .map(|known| known.to_string())
        .collect()
}

/// What the programs say they are. No build date of its own: equal inputs give equal programs.
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
    fn what_go_says_is_understood() {
        for (output, is) in [
            (
                "reading https://proxy.golang.org/k8s.io/kubernetes/@v/v1.36.99.info: 404 Not Found\n\tserver response: not found: k8s.io/kubernetes@v1.36.99: invalid version: unknown revision v1.36.99",
                GoFailure::Missing,
            ),
            (
                "403 Forbidden\n\tserver response: This module version is not available.",
                GoFailure::Missing,
            ),
            (
                "Get \"https://proxy.golang.org/x\": dial tcp: lookup proxy.golang.org: no such host",
                GoFailure::Unreachable,
            ),
            (
                "module lookup disabled by GOPROXY=off",
                GoFailure::Unreachable,
            ),
            ("./main.go:3: undefined: x", GoFailure::Other),
        ] {
            let error = Error::new(Kind::Assets, "go failed").with_detail("output", output);
            assert_eq!(classify(&error), is, "{output}");
        }
    }

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
