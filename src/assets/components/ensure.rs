//! Finds a set in the cache, or makes it from the first source that has it.

use std::path::Path;

use super::inputs::Inputs;
use super::set::{ComponentSet, Request, Source};
use super::{build, cache, extras, go, local, official};
use crate::assets::cache::Cache;
use crate::assets::download::failure;
use crate::error::{Error, Kind, Result};
use crate::progress::Progress;

/// Returns the components of a version, and makes them first where they are missing.
///
/// # Errors
/// [`Kind::Assets`] when they cannot be had, also because that version does not exist;
/// [`Kind::Usage`] for a folder or mirror that makes no sense; [`Kind::Interrupted`] on Ctrl-C.
pub fn ensure(request: &Request, progress: &dyn Progress) -> Result<ComponentSet> {
    let cache = cache::open(request.cache)?;
    let local = match request.dir {
        Some(dir) => match local::look(dir, request.version)? {
            local::Found::Volume(set) => return Ok(set),
            local::Found::Programs(programs) => Some(programs),
        },
        None => None,
    };
    let wanted = match &local {
        Some(programs) => vec![programs.inputs.clone()],
        None => wanted(request)?,
    };
    let version = request.version;
    let cached = |set: &ComponentSet| {
        let step = progress.step(&format!("Kubernetes {version} components"));
        step.skipped(format!("cached ({})", set.origin));
    };
    let (found, corrupt) = cache::look_up(&cache, version, &wanted)?;
    if let Some(set) = found.filter(|_| corrupt.is_empty()) {
        cached(&set);
        return Ok(set);
    }
    let _lock = cache.lock(&version.to_string(), |lock| {
        progress.note(&format!(
            "waiting for another kubby that prepares the components of {version} (it holds {})",
            lock.display()
        ));
    })?;
    // The process that had the lock may have made them meanwhile.
    let (found, corrupt) = cache::look_up(&cache, version, &wanted)?;
    for (path, why) in &corrupt {
        progress.warn(&format!(
            "the cached components in {} are damaged ({why}); they are removed",
            path.display()
        ));
        crate::fsutil::remove_all(path)?;
    }
    if let Some(set) = found {
        cached(&set);
        return Ok(set);
    }
    cache.clean(&cache::unfinished(version))?;
    make(request, local.as_ref(), &cache, progress)
}

/// Returns the inputs of sets that may be taken from the cache, best first.
fn wanted(request: &Request) -> Result<Vec<Inputs>> {
    let download = download_inputs(request, None)?;
    Ok(match request.source {
        Source::Auto => vec![download, Inputs::build(request.version, None)?],
        Source::Download => vec![download],
        // With another Go it would be another set; without Go the one that is there must do.
        Source::Build => vec![Inputs::build(request.version, go::version().ok())?],
    })
}

fn make(
    request: &Request,
    local: Option<&local::Programs>,
    cache: &Cache,
    progress: &dyn Progress,
) -> Result<ComponentSet> {
    let version = request.version;
    let logs = cache.root.join("logs");
    crate::fsutil::create_private_dir(&logs)?;
    if let Some(programs) = local {
        let inputs = Inputs {
            go: extras::go_version(&programs.lacks)?,
            ..programs.inputs.clone()
        };
        return cache::make(cache, version, &inputs, progress, |stage| {
            local::stage(programs, stage)?;
            extras::build(&programs.lacks, version, stage, &logs, progress)
        });
    }
    let unreachable = if request.source == Source::Build {
        None
    } else {
        match download(request, cache, &logs, progress) {
            Err(e) if request.source.may_build(failure(&e)) => Some(e),
            result => return result,
        }
    };
    let built = go::version().and_then(|go| {
        if let Some(e) = &unreachable {
            progress.note(&format!(
                "{}; the components are built from source instead, which takes minutes, once",
                e.message()
            ));
        }
        let inputs = Inputs::build(version, Some(go))?;
        cache::make(cache, version, &inputs, progress, |stage| {
            build::stage(version, stage, &logs, progress)
        })
    });
    match (built, unreachable) {
        (Err(e), Some(first)) if e.kind() != Kind::Interrupted => Err(neither(e, &first)),
        (result, _) => result,
    }
}

/// Makes a set of the official downloads, and of what they lack.
fn download(
    request: &Request,
    cache: &Cache,
    logs: &Path,
    progress: &dyn Progress,
) -> Result<ComponentSet> {
    let version = request.version;
    let lacks = request
        .extras
        .map_or_else(|| extras::ALL.iter().collect(), extras::missing_in);
    // Go first, so that a host without it downloads nothing.
    let inputs = download_inputs(request, extras::go_version(&lacks)?)?;
    cache::make(cache, version, &inputs, progress, |stage| {
        official::stage(request, stage, progress)?;
        if let Some(dir) = request.extras {
            extras::copy(dir, stage)?;
        }
        extras::build(&lacks, version, stage, logs, progress)
    })
}

fn download_inputs(request: &Request, go: Option<String>) -> Result<Inputs> {
    Inputs::download(request.version, request.binary_mirror, request.extras, go)
}

/// Returns the error of a build that was tried since the downloads were out of reach: it names
/// both.
fn neither(build: Error, download: &Error) -> Error {
    let error = build.with_first_detail("it was tried because", download.message());
    let hints = download.hints().iter();
    hints.fold(error, Error::with_hint).with_hint(
        "or bring the components along: --components DIR or --binary-mirror URL, see docs/components.md",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::download::Failure;

    #[test]
    fn only_an_unreachable_host_leads_to_a_build() {
        let others = [
            Failure::NotFound,
            Failure::Status(500),
            Failure::Cut,
            Failure::Changed,
            Failure::Checksum,
            Failure::Protocol,
        ];
        assert!(Source::Auto.may_build(Some(Failure::Unreachable)));
        for why in others.map(Some).into_iter().chain([None]) {
            assert!(!Source::Auto.may_build(why), "{why:?}");
        }
        for source in [Source::Download, Source::Build] {
            assert!(!source.may_build(Some(Failure::Unreachable)), "{source:?}");
        }
    }

    #[test]
    fn a_failed_build_after_a_failed_download_tells_both() {
        let download = Error::assets("host is gone").with_hint("check the network");
        let build = Error::assets("no go")
            .with_detail("the output", "go: not found")
            .with_hint("install go")
            .with_source("why");
        let e = neither(build, &download);
        assert_eq!(e.message(), "no go");
        assert_eq!(e.details()[0].1, "host is gone");
        assert_eq!(e.details()[1].1, "go: not found");
        assert_eq!(e.hints()[..2], ["install go", "check the network"]);
        assert!(e.hints()[2].contains("--components"));
        assert_eq!(e.causes(), ["why"]);
    }
}
