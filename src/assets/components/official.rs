//! The official release downloads, each verified by its published SHA-256.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::catalog::{self, COREDNS_VERSION, ETCD_VERSION, KUBERNETES_PROGRAMS, PAUSE_VERSION};
use super::set::Request;
use super::stage::Stage;
use super::{archive, oci, parallel, registry};
use crate::assets::download::{self, Failure, Limits, failure};
use crate::assets::version::KubernetesVersion;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::progress::{Progress, Step};

/// The number of connections at a time: enough to fill a line, few enough for any server.
const WIDTH: usize = 4;

/// Returns the base URL of a project's downloads, without a slash at its end. A mirror has all
/// projects under one.
fn base<'a>(mirror: Option<&'a str>, official: &'a str) -> &'a str {
    mirror.map_or(official, |mirror| mirror.trim_end_matches('/'))
}

fn check_mirror(mirror: Option<&str>) -> Result<()> {
    match mirror {
        Some(url) if !url.starts_with("http://") && !url.starts_with("https://") => {
            let message = format!("`{url}` is not a mirror; it must be an http(s) URL");
            Err(Error::usage(message))
        }
        _ => Ok(()),
    }
}

/// One file to download.
#[derive(Debug)]
struct Item {
    url: String,
    /// The address of its SHA-256.
    sums: String,
    /// Its name there.
    name: String,
    dest: PathBuf,
    /// The members to take out of it, and where to; none for a program of Kubernetes.
    members: Vec<(String, PathBuf)>,
}

fn items(mirror: Option<&str>, version: KubernetesVersion, arch: &str, stage: &Stage) -> Vec<Item> {
    let kubernetes = base(mirror, "https://dl.k8s.io");
    let github = base(mirror, "https://github.com");
    let folder = format!("{kubernetes}/release/{version}/bin/linux/{arch}");
    let program = |name: &str| Item {
        url: format!("{folder}/{name}"),
        sums: format!("{folder}/{name}.sha256"),
        name: name.to_owned(),
        dest: stage.bin.join(name),
        members: Vec::new(),
    };
    let archive = |project: &str, version: &str, name: String, sums: &str, members| {
        let folder = format!("{github}/{project}/releases/download/v{version}");
        Item {
            url: format!("{folder}/{name}"),
            sums: format!("{folder}/{sums}"),
            dest: stage.work.join(&name),
            name,
            members,
        }
    };
    let etcd = format!("etcd-v{ETCD_VERSION}-linux-{arch}");
    let members = ["etcd", "etcdctl"]
        .map(|name| (format!("{etcd}/{name}"), stage.bin.join(name)))
        .to_vec();
    let etcd = format!("{etcd}.tar.gz");
    let etcd = archive("etcd-io/etcd", ETCD_VERSION, etcd, "SHA256SUMS", members);
    let members = vec![("coredns".to_owned(), stage.work.join("coredns"))];
    let coredns = format!("coredns_{COREDNS_VERSION}_linux_{arch}.tgz");
    let sums = format!("{coredns}.sha256");
    let coredns = archive("coredns/coredns", COREDNS_VERSION, coredns, &sums, members);
    let programs = KUBERNETES_PROGRAMS.iter().map(|name| program(name));
    programs.chain([etcd, coredns]).collect()
}

/// Downloads everything into the stage.
pub(super) fn stage(request: &Request, stage: &mut Stage, progress: &dyn Progress) -> Result<()> {
    let version = request.version;
    let arch = catalog::arch()?;
    let mirror = request.binary_mirror;
    check_mirror(mirror)?;
    let items = items(mirror, version, arch, stage);
    let step = progress.step(&format!("Download the Kubernetes {version} components"));
    if let Err(e) = fetch(&items, request, stage, &step) {
        if request.source.may_build(failure(&e)) {
            step.skipped("the hosts are out of reach");
        }
        return Err(e);
    }
    step.detail("unpacking");
    for Item { dest, members, .. } in &items {
        if members.is_empty() {
            fs::set_permissions(dest, fs::Permissions::from_mode(0o755))
                .context(Kind::Assets, || {
                    format!("cannot prepare {}", dest.display())
                })?;
        } else {
            archive::extract(dest, members)?;
        }
    }
    let pause = catalog::reference("pause")?.to_owned();
    stage.references.insert("pause".to_owned(), pause);
    let coredns = stage.work.join("coredns");
    oci::pack(&oci::Program::alone(&coredns), "coredns", stage)?;
    step.done("");
    Ok(())
}

/// Downloads `items` and the pause image. All checksums come before any payload, so that a version
/// that does not exist shows at once.
fn fetch(items: &[Item], request: &Request, stage: &Stage, step: &Step) -> Result<()> {
    let limits = Limits {
        stop: Arc::default(),
        ..request.limits.clone()
    };
    let explain = |item: &Item, error| explain(error, item, request);
    let sums = parallel::for_each(WIDTH, items, &limits.stop, |_, item| {
        let text = download::fetch_text(&item.sums, &limits);
        let text = text.map_err(|e| explain(item, e))?;
        download::sha256_of(&text, &item.name).map_err(|why| {
            let from = download::printable(&item.sums);
            Error::assets(format!("{from}: {why}"))
        })
    })?;
    let (reference, out) = (catalog::reference("pause")?, stage.image("pause"));
    let registry = base(request.binary_mirror, "https://registry.k8s.io");
    registry::fetch(registry, "pause", PAUSE_VERSION, reference, &out, &limits)?;
    let sinks = parallel::parts(&step.sink(), items.len());
    parallel::for_each(WIDTH, items, &limits.stop, |index, item| {
        let (sum, sink) = (&sums[index], &sinks[index]);
        download::fetch_to_file(&item.url, &item.dest, sum, sink, &limits)
            .map_err(|e| explain(item, e))
    })
    .map(drop)
}

/// Explains a missing Kubernetes program: that version does not exist.
fn explain(error: Error, item: &Item, request: &Request) -> Error {
    let version = request.version;
    if !item.members.is_empty() || failure(&error) != Some(Failure::NotFound) {
        return error;
    }
    let message = match request.binary_mirror {
        None => format!("Kubernetes {version} does not exist upstream"),
        Some(mirror) => format!(
            "Kubernetes {version} does not exist upstream, or at least not on the mirror {}",
            download::printable(mirror)
        ),
    };
    Error::assets(message)
        .with_source(error)
        .with_hint("https://kubernetes.io/releases lists the versions")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::version::DEFAULT;

    fn urls(mirror: Option<&str>) -> Vec<String> {
        let here = PathBuf::from("x");
        let stage = Stage {
            bin: here.clone(),
            images: here.clone(),
            work: here,
            ..Stage::default()
        };
        items(mirror, DEFAULT, "arm64", &stage)
            .into_iter()
            .flat_map(|item| [item.url, item.sums])
            .collect()
    }

    #[test]
    fn official_addresses_are_as_the_projects_publish_them() {
        let urls = urls(None);
        for url in [
            "https://dl.k8s.io/release/v1.37.2/bin/linux/arm64/kube-apiserver",
            "https://dl.k8s.io/release/v1.37.2/bin/linux/arm64/kube-apiserver.sha256",
            "https://github.com/etcd-io/etcd/releases/download/v3.7.3/etcd-v3.7.3-linux-arm64.tar.gz",
            "https://github.com/etcd-io/etcd/releases/download/v3.7.3/SHA256SUMS",
            "https://github.com/coredns/coredns/releases/download/v1.15.0/coredns_1.15.0_linux_arm64.tgz",
            "https://github.com/coredns/coredns/releases/download/v1.15.0/coredns_1.15.0_linux_arm64.tgz.sha256",
        ] {
            assert!(
                urls.iter().any(|u| u == url),
                "{url} is not among {urls:#?}"
            );
        }
    }

    #[test]
    fn a_mirror_has_all_under_one_base() {
        let urls = urls(Some("http://mirror:8080/k8s/"));
        assert!(
            urls.iter()
                .all(|u| u.starts_with("http://mirror:8080/k8s/")),
            "{urls:#?}"
        );
        assert!(
            urls[0].starts_with("http://mirror:8080/k8s/release/v1.37.2/"),
            "{}",
            urls[0]
        );
        assert_eq!(
            check_mirror(Some("mirror/k8s")).unwrap_err().kind(),
            Kind::Usage
        );
    }
}
