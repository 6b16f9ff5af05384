//! The Kubernetes components: one read-only volume per version.
//!
//! [`ensure`] answers with a [`ComponentSet`] from the cache, or makes one: out of the official
//! downloads, or out of Go modules where the download hosts are out of reach. What Kubernetes does
//! not come with, but a cluster needs, is built in any case ([`extras`]). Everything that goes into
//! a set is hashed to its key; a set appears in the cache whole or not at all.

pub(crate) mod archive;
mod build;
mod cache;
mod carried;
mod extras;
mod go;
mod gomod;
mod inputs;
mod local;
mod manifest;
mod oci;
mod official;
mod parallel;
mod registry;
mod seed;
mod state;
mod volume;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::assets::download::{Failure, Limits, failure};
use crate::assets::version::KubernetesVersion;
use crate::error::{Error, Kind, Result};
use crate::fsutil::Lock;
use crate::progress::Progress;

pub use carried::{adopt, cached, check_key, load, staging};

use cache::Cache;
use inputs::Inputs;

/// The etcd release of every set.
pub const ETCD_VERSION: &str = "3.7.3";
/// The CoreDNS release of every set.
pub const COREDNS_VERSION: &str = "1.15.0";
/// The tag of the pause image of every set.
pub const PAUSE_VERSION: &str = "3.10.2";

/// The images of every set that kubby makes itself: the name of the archive in the volume's
/// `/images`, without `.tar`, and the reference under which the archive is imported.
pub const IMAGES: [(&str, &str); 5] = [
    ("coredns", "registry.k8s.io/coredns/coredns:v1.15.0"),
    (
        "metrics-server",
        "registry.k8s.io/metrics-server/metrics-server:v0.9.0",
    ),
    ("pause", "registry.k8s.io/pause:3.10.2"),
    ("registry", "docker.io/library/registry:3.1.2"),
    ("storage", "kubby.dev/storage:0.1.0"),
];

/// The client of the image builder, in a volume's `/bin` and on the host.
const BUILDCTL: &str = "buildctl";

/// The programs that are on the host as well, beside the volume.
const HOST_PROGRAMS: [&str; 2] = ["kubectl", BUILDCTL];

/// The Kubernetes programs of a volume's `/bin`.
const KUBERNETES_PROGRAMS: [&str; 6] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubectl",
];

/// The source of components, after the cache; its comments are the texts of
/// `--component-source` in the help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Source {
    /// Official downloads; a build from Go modules if they cannot be reached
    #[default]
    Auto,
    /// Official downloads only
    Download,
    /// A build from Go modules only
    Build,
}

/// What components are wanted.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The version of Kubernetes.
    pub version: KubernetesVersion,
    /// Where they may come from, unless `dir` says otherwise.
    pub source: Source,
    /// A folder that somebody else prepared (`--components DIR`); nothing else is then tried.
    pub dir: Option<&'a Path>,
    /// Another base URL with the layout of the official ones (`--binary-mirror`).
    pub binary_mirror: Option<&'a str>,
    /// A folder with the programs and images that Kubernetes does not come with, laid out as `dir`
    /// is: what it has is not built beside official downloads.
    pub extras: Option<&'a Path>,
    /// The cache folder of kubby; sets are kept under `components` in it.
    pub cache: &'a Path,
}

/// Components that are ready to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentSet {
    /// The version of Kubernetes.
    pub version: KubernetesVersion,
    /// Identifies the set: 64 hex digits, a hash of all that it was made from.
    pub key: String,
    /// The read-only erofs image: `/bin`, `/images`, `/manifest.json`, and mostly `/containerd` and
    /// `/etcd`.
    pub volume: PathBuf,
    /// A kubectl of the same version that runs on this host.
    pub kubectl: PathBuf,
    /// The client of the node's buildkitd, of the same version, that runs on this host.
    pub buildctl: PathBuf,
    /// The references of the images in the volume, by the names of their archives in `/images`,
    /// as [`IMAGES`] has them unless somebody else's folder had others.
    pub images: BTreeMap<String, String>,
    /// The version of etcd, such as `3.7.3`.
    pub etcd_version: String,
    /// The version of CoreDNS, such as `1.15.0`.
    pub coredns_version: String,
    /// Where the set came from: `download`, `build` or `directory`.
    pub origin: String,
}

impl ComponentSet {
    /// The reference of the image in the volume's `/images/NAME.tar`.
    ///
    /// # Errors
    /// [`Kind::Assets`] where the set has no such image.
    pub fn image(&self, name: &str) -> Result<&str> {
        self.images.get(name).map(String::as_str).ok_or_else(|| {
            let message = format!(
                "the components in {} lack the image {name}",
                self.volume.display()
            );
            Error::new(Kind::Assets, message)
        })
    }
}

/// Answers with the components of a version, making them first where they are not there.
///
/// # Errors
/// [`Kind::Assets`] when they cannot be had, also because there is no such version;
/// [`Kind::Usage`] for a folder or mirror that makes no sense; [`Kind::Interrupted`] on Ctrl-C.
pub fn ensure(request: &Request, progress: &dyn Progress) -> Result<ComponentSet> {
    ensure_within(request, &Limits::default(), progress)
}

/// [`ensure`] with another patience for downloads.
///
/// # Errors
/// As [`ensure`].
pub fn ensure_within(
    request: &Request,
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<ComponentSet> {
    let cache = Cache::open(request.cache)?;
    let local = match request.dir {
        Some(dir) => match local::look(dir, request.version)? {
            local::Found::Volume(set) => return Ok(set),
            local::Found::Programs(programs) => Some(programs),
        },
        None => None,
    };
    let wanted = match &local {
        // Whichever Go has built what the folder lacks.
        Some(programs) => vec![Inputs::directory(request.version, programs, None)?],
        None => wanted(request)?,
    };
    let title = format!("Kubernetes {} components", request.version);

    let found = cache.look_up(request.version, &wanted);
    if let (Some(set), []) = (&found.set, &found.corrupt[..]) {
        progress
            .step(&title)
            .skipped(format!("cached ({})", set.origin));
        return Ok(set.clone());
    }
    let lock_file = cache.lock_file(request.version);
    let _lock = Lock::acquire(&lock_file, || {
        progress.note(&format!(
            "waiting for another kubby that prepares the components of {} (it holds {})",
            request.version,
            lock_file.display()
        ));
    })?;
    // Whoever had the lock may have made them meanwhile.
    let found = cache.look_up(request.version, &wanted);
    for (path, why) in &found.corrupt {
        progress.warn(&format!(
            "the cached components in {} are damaged ({why}); they are removed",
            path.display()
        ));
        crate::fsutil::remove_all(path)?;
    }
    if let Some(set) = found.set {
        progress
            .step(&title)
            .skipped(format!("cached ({})", set.origin));
        return Ok(set);
    }
    cache.clean(request.version)?;
    make(request, local.as_ref(), &cache, limits, progress)
}

/// What may be taken from the cache, best first.
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
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<ComponentSet> {
    let logs = cache.logs()?;
    let label = request.version.to_string();
    if let Some(programs) = local {
        let go = go_for(&programs.lacks)?;
        let inputs = Inputs::directory(request.version, programs, go)?;
        return cache.publish(request.version, &inputs, progress, |stage| {
            let mut images = local::stage(programs, stage)?;
            extras::build(
                &programs.lacks,
                stage,
                &mut images,
                (&logs, &label),
                progress,
            )?;
            Ok(images)
        });
    }
    let unreachable = if request.source == Source::Build {
        None
    } else {
        let lacks = request
            .extras
            .map_or_else(|| extras::ALL.iter().collect(), extras::missing_in);
        // Asked for first: not to download for nothing.
        let inputs = download_inputs(request, go_for(&lacks)?)?;
        let made = cache.publish(request.version, &inputs, progress, |stage| {
            let mut images = official::stage(request, stage, limits, progress)?;
            if let Some(dir) = request.extras {
                extras::copy(dir, stage, &mut images)?;
            }
            extras::build(&lacks, stage, &mut images, (&logs, &label), progress)?;
            Ok(images)
        });
        match made {
            Err(e) if may_build(request.source, failure(&e)) => Some(e),
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
        let inputs = Inputs::build(request.version, Some(go))?;
        cache.publish(request.version, &inputs, progress, |stage| {
            build::stage(request.version, stage, &logs, progress)
        })
    });
    match (built, unreachable) {
        (Err(e), Some(first)) if e.kind() != Kind::Interrupted => Err(neither(&e, &first)),
        (result, _) => result,
    }
}

fn download_inputs(request: &Request, go: Option<String>) -> Result<Inputs> {
    Inputs::download(request.version, request.binary_mirror, request.extras, go)
}

/// The version of the Go that is needed to build `extras`, if there are any.
fn go_for(extras: &[&extras::Extra]) -> Result<Option<String>> {
    match extras {
        [] => Ok(None),
        some => extras::go_version(some).map(Some),
    }
}

/// Whether a failed download may be answered by a build. Only a host out of reach justifies it:
/// after a bad checksum, building would hide that somebody tampers with the downloads.
fn may_build(source: Source, why: Option<Failure>) -> bool {
    source == Source::Auto && why == Some(Failure::Unreachable)
}

/// The build failed after the downloads were out of reach: the user must hear of both.
fn neither(build: &Error, download: &Error) -> Error {
    let mut error = Error::new(build.kind(), build.message())
        .with_detail("it was tried because", download.message());
    for (title, text) in build.details() {
        error = error.with_detail(title, text);
    }
    for hint in build.hints().iter().chain(download.hints()) {
        error = error.with_hint(hint);
    }
    error = error.with_hint(
        "or bring the components along: --components DIR or --binary-mirror URL, see docs/components.md",
    );
    match build.causes().join(": ") {
        causes if causes.is_empty() => error,
        causes => error.with_source(causes),
    }
}

/// The reference of an image in sets that kubby makes itself.
fn reference(name: &str) -> Result<&'static str> {
    IMAGES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, reference)| *reference)
        .ok_or_else(|| Error::new(Kind::Internal, format!("there is no image {name}")))
}

/// This host's architecture as Kubernetes and Go name it; the node has the same.
///
/// # Errors
/// [`Kind::Preflight`] on an architecture for which there is no Kubernetes.
pub fn arch() -> Result<&'static str> {
    arch_of(std::env::consts::ARCH).ok_or_else(|| {
        Error::new(
            Kind::Preflight,
            format!(
                "there are no Kubernetes components for the architecture {}",
                std::env::consts::ARCH
            ),
        )
        .with_hint("kubby runs on x86_64 and aarch64")
    })
}

fn arch_of(rust: &str) -> Option<&'static str> {
    match rust {
        "x86_64" => Some("amd64"),
        "aarch64" => Some("arm64"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(may_build(Source::Auto, Some(Failure::Unreachable)));
        for why in others.map(Some).into_iter().chain([None]) {
            assert!(!may_build(Source::Auto, why), "{why:?}");
        }
        for source in [Source::Download, Source::Build] {
            assert!(!may_build(source, Some(Failure::Unreachable)), "{source:?}");
        }
    }

    #[test]
    fn references_name_the_versions_that_are_made() {
        for (name, version) in [("coredns", COREDNS_VERSION), ("pause", PAUSE_VERSION)] {
            let tag = reference(name).unwrap().rsplit(':').next().unwrap();
            assert_eq!(tag.trim_start_matches('v'), version, "{name}");
        }
        assert!(IMAGES.is_sorted());
    }

    #[test]
    fn architectures_are_named_as_the_releases_name_them() {
        assert_eq!(arch_of("x86_64"), Some("amd64"));
        assert_eq!(arch_of("aarch64"), Some("arm64"));
        assert_eq!(arch_of("riscv64"), None);
    }

    #[test]
    fn a_failed_build_after_a_failed_download_tells_both() {
        let download = Error::new(Kind::Assets, "host is gone").with_hint("check the network");
        let build = Error::new(Kind::Assets, "no go")
            .with_hint("install go")
            .with_source("why");
        let e = neither(&build, &download);
        assert_eq!(e.message(), "no go");
        assert_eq!(e.details()[0].1, "host is gone");
        assert_eq!(e.hints()[..2], ["install go", "check the network"]);
        assert!(e.hints()[2].contains("--components"));
        assert_eq!(e.causes(), ["why"]);
    }
}
