//! Builds programs out of Go modules: one at a time or several side by side.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::stage::Stage;
use super::{catalog, parallel};
use crate::assets::recipes;
use crate::assets::version::KubernetesVersion;
use crate::error::{Error, Kind, Result};
use crate::progress::{Step, StepSink};
use crate::tool::Tool;

/// On two slow cores the biggest program takes a quarter of this.
const DEADLINE: Duration = Duration::from_secs(3600);

/// The number of builds at a time: compiling fills all cores, but linking only one. More at a time would
/// compile packages twice that they have in common, and need more memory.
const WIDTH: usize = 2;

/// The committed go.mod and go.sum say it all.
pub(super) const READ: &str = "-mod=readonly";
/// The go.mod is derived: Go completes it, and checks what is new against the checksum database.
pub(super) const COMPLETE: &str = "-mod=mod";

/// The tag of all builds: without gRPC's pages about its calls, the linker can leave out unused methods.
const TAGS: &str = "grpcnotrace";

/// Checks whether this host can build, by the version of its Go.
///
/// # Errors
/// [`Kind::Assets`] without Go.
pub(super) fn version() -> Result<String> {
    let version = Tool::new("go", Kind::Assets)
        .args(["env", "GOVERSION"])
        .deadline(Duration::from_secs(60))
        .run(None)?;
    Ok(version.trim().to_owned())
}

/// One program to build.
#[derive(Debug)]
pub(super) struct Job {
    /// The folder of the recipe whose go.mod it is built by.
    pub module: &'static str,
    /// The package with its `main`.
    pub package: &'static str,
    pub out: PathBuf,
    /// Options of the linker, which write the version into the program.
    pub stamp: String,
    /// Tags of the build beyond [`TAGS`], each with a comma before it.
    pub tags: &'static str,
    /// [`READ`] or [`COMPLETE`].
    pub mode: &'static str,
}

/// Go, set up for the recipe unpacked in `source`.
pub(super) struct Go<'a> {
    pub source: PathBuf,
    pub logs: &'a Path,
    /// Begins the names of the logs.
    pub label: String,
    pub sink: Arc<dyn StepSink>,
}

/// Runs `build` with Go set up for this version's recipes in the stage, as one step.
pub(super) fn in_step(
    version: KubernetesVersion,
    stage: &mut Stage,
    logs: &Path,
    step: Step,
    build: impl FnOnce(&Go, &mut Stage) -> Result<()>,
) -> Result<()> {
    let started = Instant::now();
    let source = stage.work.join("source");
    recipes::unpack("components", &source)?;
    let go = Go {
        source,
        logs,
        label: version.to_string(),
        sink: step.sink(),
    };
    build(&go, stage)?;
    step.done(format!("in {} s", started.elapsed().as_secs()));
    Ok(())
}

impl Go<'_> {
    /// Returns `go` in the folder of a module, with the settings that all its calls have in common.
    pub(super) fn tool(&self, module: &str, log: &str) -> Result<Tool> {
        Ok(Tool::new("go", Kind::Assets)
            .dir(self.source.join(module))
            .env("CGO_ENABLED", "0")
            .env("GOOS", "linux")
            .env("GOARCH", catalog::arch()?)
            .env("GOWORK", "off")
            .log(self.logs.join(format!("{}-{log}.log", self.label)))
            .deadline(DEADLINE))
    }

    /// Builds all of `jobs`, begun in their order. The first failure ends the others.
    pub(super) fn build_all(&self, jobs: &[Job]) -> Result<()> {
        let stop = Arc::new(AtomicBool::new(false));
        parallel::for_each(WIDTH, jobs, &stop, |_, job| self.build(job, &stop)).map(drop)
    }

    fn build(&self, job: &Job, stop: &Arc<AtomicBool>) -> Result<()> {
        let name = job.out.file_name().unwrap_or_default().to_string_lossy();
        self.tool(job.module, &name)?
            .stop(Arc::clone(stop))
            .args([
                "build",
                "-v",
                "-trimpath",
                "-buildvcs=false",
                &format!("-tags={TAGS}{}", job.tags),
                job.mode,
            ])
            .arg(format!("-ldflags=-s -w {}", job.stamp))
            .arg("-o")
            .arg(&job.out)
            .arg(job.package)
            .run(Some(Arc::clone(&self.sink)))
            .map_err(|e| explain(e, &format!("cannot build {name}")))?;
        Ok(())
    }
}

/// Puts what kubby wanted in front of what Go said.
pub(super) fn explain(error: Error, message: &str) -> Error {
    if error.kind() == Kind::Interrupted {
        return error;
    }
    let unreachable = classify(&error) == GoFailure::Unreachable;
    let message = if unreachable {
        format!("{message}: the Go module proxy cannot be reached")
    } else {
        message.to_owned()
    };
    let error = error.wrapped(message);
    if !unreachable {
        return error;
    }
    error.with_hint(
        "check the network and GOPROXY, or bring the components along with --components DIR",
    )
}

/// The reason for which Go failed, as far as its output shows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum GoFailure {
    Missing,
    Unreachable,
    Other,
}

pub(super) fn classify(error: &Error) -> GoFailure {
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
            let error = Error::assets("go failed").with_detail("output", output);
            assert_eq!(classify(&error), is, "{output}");
        }
    }
}
