//! The official release downloads, each verified by its published SHA-256.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::catalog::{self, COREDNS_VERSION, ETCD_VERSION, KUBERNETES_PROGRAMS, PAUSE_VERSION};
use super::parallel::{self, Sum};
use super::set::Request;
use super::stage::{Images, Stage};
use super::{archive, oci, registry};
use crate::assets::download::{self, Failure, Limits, failure};
use crate::assets::version::KubernetesVersion;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::progress::{Progress, Silent};

/// So many connections at a time: enough to fill a line, few enough for any server.
const WIDTH: usize = 4;

/// The base URLs; a mirror has all of it under one.
struct Bases {
    kubernetes: String,
    github: String,
    registry: String,
}

impl Bases {
    fn new(mirror: Option<&str>) -> Result<Self> {
        let Some(mirror) = mirror else {
            return Ok(Bases {
                kubernetes: "https://dl.k8s.io".into(),
                github: "https://github.com".into(),
                registry: "https://registry.k8s.io".into(),
            });
        };
        if !["http://", "https://"]
            .iter()
            .any(|scheme| mirror.starts_with(scheme))
        {
            let message = format!("`{mirror}` is not a mirror; it must be an http(s) URL");
            return Err(Error::new(Kind::Usage, message));
        }
        let base = mirror.trim_end_matches('/').to_owned();
        Ok(Bases {
            kubernetes: base.clone(),
            github: base.clone(),
            registry: base,
        })
    }
}

/// One file to download.
#[derive(Debug)]
struct Item {
    url: String,
    /// Where its SHA-256 is published.
    sums: String,
    /// Its name there.
    name: String,
    dest: PathBuf,
    kubernetes: bool,
}

fn items(bases: &Bases, version: KubernetesVersion, arch: &str, stage: &Stage) -> Vec<Item> {
    let mut items: Vec<Item> = KUBERNETES_PROGRAMS
        .iter()
        .map(|name| {
            let url = format!(
                "{}/release/{version}/bin/linux/{arch}/{name}",
                bases.kubernetes
            );
            Item {
                sums: format!("{url}.sha256"),
                url,
                name: (*name).to_owned(),
                dest: stage.bin.join(name),
                kubernetes: true,
            }
        })
        .collect();
    let archive = |project: &str, version: &str, name: String, sums: &str| {
        let folder = format!("{}/{project}/releases/download/v{version}", bases.github);
        Item {
            url: format!("{folder}/{name}"),
            sums: format!("{folder}/{}", sums.replace("NAME", &name)),
            dest: stage.work.join(&name),
            name,
            kubernetes: false,
        }
    };
    let etcd = format!("{}.tar.gz", etcd_folder(arch));
    items.push(archive("etcd-io/etcd", ETCD_VERSION, etcd, "SHA256SUMS"));
    let coredns = format!("coredns_{COREDNS_VERSION}_linux_{arch}.tgz");
    items.push(archive(
        "coredns/coredns",
        COREDNS_VERSION,
        coredns,
        "NAME.sha256",
    ));
    items
}

fn etcd_folder(arch: &str) -> String {
    format!("etcd-v{ETCD_VERSION}-linux-{arch}")
}

/// Downloads everything into the stage.
pub(super) fn stage(
    request: &Request,
    stage: &Stage,
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<Images> {
    let version = request.version;
    let arch = catalog::arch()?;
    let bases = Bases::new(request.binary_mirror)?;
    let items = items(&bases, version, arch, stage);
    let step = progress.step(&format!("Download the Kubernetes {version} components"));
    let limits = Limits {
        stop: Arc::default(),
        ..limits.clone()
    };
    let explain = |item: &Item, error| explain(error, item, version, request.binary_mirror);

    // All checksums before any payload: a version that does not exist shows at once.
    let quiet = Silent.step("").sink();
    let fetched = parallel::for_each(WIDTH, &items, &limits.stop, |_, item| {
        let text =
            download::fetch_text(&item.sums, &quiet, &limits).map_err(|e| explain(item, e))?;
        download::sha256_of(&text, &item.name).map_err(|why| {
            Error::new(
                Kind::Assets,
                format!("{}: {why}", download::printable(&item.sums)),
            )
        })
    })
    .and_then(|sums| {
        let image = registry::Image {
            name: "pause",
            tag: PAUSE_VERSION,
            arch,
        };
        let (reference, out) = (catalog::reference("pause")?, stage.image("pause"));
        registry::fetch(&bases.registry, &image, reference, &out, &limits)?;
        let sum = Sum::new(step.sink(), items.len());
        parallel::for_each(WIDTH, &items, &limits.stop, |index, item| {
            let sink = sum.part(index);
            download::fetch_to_file_within(&item.url, &item.dest, &sums[index], &sink, &limits)
                .map_err(|e| explain(item, e))
        })
    });
    if let Err(e) = fetched {
        if request.source.may_build(failure(&e)) {
            step.skipped("the hosts are out of reach");
        }
        return Err(e);
    }

    step.detail("unpacking");
    for item in &items {
        let file = item.dest.clone();
        if item.kubernetes {
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))
                .context(Kind::Assets, || {
                    format!("cannot prepare {}", file.display())
                })?;
        } else if item.name.starts_with("etcd") {
            let wanted = ["etcd", "etcdctl"].map(|name| {
                (
                    format!("{}/{name}", etcd_folder(arch)),
                    stage.bin.join(name),
                )
            });
            archive::extract(&file, &wanted)?;
        } else {
            archive::extract(&file, &[("coredns".to_owned(), stage.work.join("coredns"))])?;
        }
    }
    let mut images = Images::new();
    images.insert("pause".into(), catalog::reference("pause")?.into());
    let coredns = stage.work.join("coredns");
    oci::pack(
        &oci::Program::alone(&coredns),
        "coredns",
        stage,
        &mut images,
    )?;
    step.done("");
    Ok(images)
}

/// A missing Kubernetes program means that there is no such version.
fn explain(error: Error, item: &Item, version: KubernetesVersion, mirror: Option<&str>) -> Error {
    if !item.kubernetes || failure(&error) != Some(Failure::NotFound) {
        return error;
    }
    let message = match mirror {
        None => format!("Kubernetes {version} does not exist upstream"),
        Some(mirror) => format!(
            "Kubernetes {version} does not exist upstream, or at least not on the mirror {}",
            download::printable(mirror)
        ),
    };
    Error::new(Kind::Assets, message)
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
        };
        items(&Bases::new(mirror).unwrap(), DEFAULT, "arm64", &stage)
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
            Bases::new(Some("mirror/k8s")).err().unwrap().kind(),
            Kind::Usage
        );
    }
}
