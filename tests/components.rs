//! Component sets from a mirror with the official layout and from the cache.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod http_server;
mod volume_contents;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use http_server::{Reply, Request as Seen, Server};
use kubby::testing::assets::components::{ComponentSet, IMAGES, Request, Source, ensure};
use kubby::testing::assets::download::{Failure, Limits, failure};
use kubby::testing::assets::version::{self, KubernetesVersion};
use kubby::testing::error::{Kind, Result};
use kubby::testing::progress::{Progress, Silent, Step};
use serde_json::json;
use sha2::{Digest, Sha256};
use volume_contents::{PROGRAMS, check_extras, extra, holds, unpacked, write_extras};

fn arch() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    }
}

fn sha(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

fn tgz(members: &[(String, &[u8])]) -> Vec<u8> {
    let gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gz);
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn program(name: &str) -> Vec<u8> {
    format!("#!/bin/sh\necho this is {name}\n")
        .repeat(2000)
        .into_bytes()
}

/// A mirror with small programs: path → content.
fn mirror() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let arch = arch();
    for name in PROGRAMS {
        let path = format!("/m/release/{}/bin/linux/{arch}/{name}", version::DEFAULT);
        files.insert(format!("{path}.sha256"), sha(&program(name)).into_bytes());
        files.insert(path, program(name));
    }
    let folder = format!("etcd-v3.7.3-linux-{arch}");
    let etcd = tgz(&[
        (format!("{folder}/README.md"), b"read me"),
        (format!("{folder}/etcd"), &program("etcd")),
        (format!("{folder}/etcdctl"), &program("etcdctl")),
    ]);
    let base = "/m/etcd-io/etcd/releases/download/v3.7.3";
    let sums = format!("{}  other.zip\n{}  {folder}.tar.gz\n", sha(b""), sha(&etcd));
    files.insert(format!("{base}/SHA256SUMS"), sums.into_bytes());
    files.insert(format!("{base}/{folder}.tar.gz"), etcd);

    let coredns = tgz(&[("coredns".into(), &program("coredns"))]);
    let name = format!("coredns_1.15.0_linux_{arch}.tgz");
    let base = "/m/coredns/coredns/releases/download/v1.15.0";
    let sums = format!("{}  release/{name}\n", sha(&coredns));
    files.insert(format!("{base}/{name}.sha256"), sums.into_bytes());
    files.insert(format!("{base}/{name}"), coredns);

    let blob = |content: &[u8]| json!({ "digest": format!("sha256:{}", sha(content)), "size": content.len() });
    let (config, layer) = (b"{}".to_vec(), b"layer".to_vec());
    let manifest = json!({ "config": blob(&config), "layers": [blob(&layer)] }).to_string();
    let mut entry = blob(manifest.as_bytes());
    entry["platform"] = json!({ "os": "linux", "architecture": arch });
    let index = json!({ "manifests": [{ "platform": { "os": "windows" } }, entry] }).to_string();
    files.insert("/m/v2/pause/manifests/3.10.2".into(), index.into_bytes());
    files.insert(
        format!("/m/v2/pause/manifests/sha256:{}", sha(manifest.as_bytes())),
        manifest.into_bytes(),
    );
    for content in [config, layer] {
        files.insert(
            format!("/m/v2/pause/blobs/sha256:{}", sha(&content)),
            content,
        );
    }
    files
}

/// Serves a mirror; `twist` may answer in its place.
fn serve(
    files: BTreeMap<String, Vec<u8>>,
    twist: impl Fn(&Seen, &[u8]) -> Option<Reply> + Send + Sync + 'static,
) -> Server {
    Server::start(move |request| match files.get(&request.path) {
        None => Reply::status(404),
        Some(content) => {
            twist(request, content).unwrap_or_else(|| Reply::ranged(request, content, "\"1\""))
        }
    })
}

fn quick() -> Limits {
    Limits {
        stall: Duration::from_millis(300),
        connect: Duration::from_secs(2),
        retries: 2,
        backoff: Duration::from_millis(5),
        ..Limits::default()
    }
}

/// A folder with stand-ins for what is not downloaded.
fn extras() -> &'static Path {
    static DIR: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
        let dir = tempfile::tempdir().unwrap();
        write_extras(dir.path());
        dir
    });
    DIR.path()
}

fn from_mirror(server: &Server, cache: &Path, source: Source) -> Result<ComponentSet> {
    let base = server.url("/m/");
    let request = Request {
        version: version::DEFAULT,
        source,
        dir: None,
        binary_mirror: Some(&base),
        extras: Some(extras()),
        cache,
        limits: quick(),
    };
    ensure(&request, &Silent)
}

/// What is in the cache but locks, logs and what a finished run may leave.
fn entries(cache: &Path) -> Vec<PathBuf> {
    fs::read_dir(cache.join("components"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|path| path.is_dir() && !path.ends_with("logs"))
        .collect()
}

/// A failed run must leave nothing in the cache.
fn refused(server: &Server, source: Source) -> kubby::testing::error::Error {
    let cache = tempfile::tempdir().unwrap();
    let error = from_mirror(server, cache.path(), source).unwrap_err();
    assert_eq!(error.kind(), Kind::Assets);
    assert_eq!(entries(cache.path()), Vec::<PathBuf>::new());
    error
}

#[test]
fn a_mirror_gives_a_whole_set_that_is_then_cached() {
    let server = serve(mirror(), |_, _| None);
    let cache = tempfile::tempdir().unwrap();
    let set = from_mirror(&server, cache.path(), Source::Auto).unwrap();
    assert_eq!(set.origin, "download");
    let images: Vec<(&str, &str)> = set.images.iter().map(|(n, r)| (&**n, &**r)).collect();
    assert_eq!(images, IMAGES);
    for (path, content) in [
        (&set.kubectl, program("kubectl")),
        (&set.buildctl, extra("buildctl")),
    ] {
        assert_eq!(fs::read(path).unwrap(), content);
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "{}", path.display());
    }
    let dir = unpacked(&set.volume);
    for name in PROGRAMS.iter().chain(&["etcd", "etcdctl"]) {
        let path = dir.path().join("bin").join(name);
        assert_eq!(fs::read(&path).unwrap(), program(name), "{name}");
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o755,
            "{name}"
        );
    }
    for (image, content) in [("pause", &b"layer"[..]), ("coredns", &program("coredns"))] {
        assert!(holds(dir.path(), image, content), "{image}");
    }
    check_extras(dir.path());
    assert!(holds(
        dir.path(),
        "registry",
        b"etc/distribution/config.yml"
    ));
    // It runs in its image only, and is too big to be there twice.
    assert!(!dir.path().join("bin/coredns").exists());
    assert!(dir.path().join("manifest.json").is_file());

    let before = server.requests().len();
    let again = from_mirror(&server, cache.path(), Source::Download).unwrap();
    assert_eq!(again, set);
    assert_eq!(
        server.requests().len(),
        before,
        "a cached set needs no network"
    );
}

#[test]
fn a_wrong_checksum_is_refused_with_no_second_way() {
    let server = serve(mirror(), |r, _| {
        r.path
            .ends_with("/kubelet")
            .then(|| Reply::ok("something else"))
    });
    let error = refused(&server, Source::Auto);
    assert_eq!(failure(&error), Some(Failure::Checksum));
    assert!(error.message().contains("/kubelet"), "{error}");
}

#[test]
fn a_wrong_layer_of_the_pause_image_is_refused() {
    let layer = sha(b"layer");
    let server = serve(mirror(), move |r, _| {
        r.path.ends_with(&layer).then(|| Reply::ok("another"))
    });
    assert_eq!(
        failure(&refused(&server, Source::Auto)),
        Some(Failure::Checksum)
    );
}

#[test]
fn a_cut_download_goes_on() {
    let server = serve(mirror(), |r, content| {
        (r.earlier == 0 && content.len() > 20_000)
            .then(|| Reply::ranged(r, content, "\"1\"").cut_after(10_000))
    });
    let cache = tempfile::tempdir().unwrap();
    let set = from_mirror(&server, cache.path(), Source::Download).unwrap();
    assert_eq!(fs::read(&set.kubectl).unwrap(), program("kubectl"));
    assert!(server.requests().iter().any(|r| r.range == Some(10_000)));
}

#[test]
fn a_stalled_download_is_given_up_without_a_build() {
    let server = serve(mirror(), |r, content| {
        r.path
            .ends_with("/kubelet")
            .then(|| Reply::ranged(r, content, "\"1\"").stall_after(0))
    });
    assert_eq!(failure(&refused(&server, Source::Auto)), Some(Failure::Cut));
}

#[test]
fn a_version_that_does_not_exist_is_named() {
    let server = serve(mirror(), |_, _| None);
    let cache = tempfile::tempdir().unwrap();
    let base = server.url("/m");
    let request = Request {
        version: KubernetesVersion {
            minor: 37,
            patch: 99,
        },
        source: Source::Auto,
        dir: None,
        binary_mirror: Some(&base),
        extras: Some(extras()),
        cache: cache.path(),
        limits: quick(),
    };
    let error = ensure(&request, &Silent).unwrap_err();
    assert_eq!(failure(&error), Some(Failure::NotFound));
    assert!(
        error.message().contains("v1.37.99 does not exist upstream"),
        "{error}"
    );
    assert!(
        server
            .requests()
            .iter()
            .all(|r| !r.path.ends_with("/kubelet")),
        "payload fetched"
    );
}

#[test]
fn a_tarball_that_escapes_is_refused() {
    let mut files = mirror();
    let evil = tgz(&[
        ("../evil".into(), b"evil"),
        ("coredns".into(), &program("coredns")),
    ]);
    let sum = sha(&evil);
    for (path, content) in &mut files {
        if path.ends_with(".tgz") {
            content.clone_from(&evil);
        } else if path.ends_with(".tgz.sha256") {
            *content = sum.clone().into_bytes();
        }
    }
    let error = refused(&serve(files, |_, _| None), Source::Auto);
    assert!(error.message().contains("points outside"), "{error}");
}

#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Progress for Warnings {
    fn step(&self, title: &str) -> Step {
        Silent.step(title)
    }
    fn note(&self, _text: &str) {}
    fn warn(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

#[test]
fn damaged_sets_are_noticed_and_made_again() {
    let server = serve(mirror(), |_, _| None);
    let cache = tempfile::tempdir().unwrap();
    let base = server.url("/m");
    let request = Request {
        version: version::DEFAULT,
        source: Source::Auto,
        dir: None,
        binary_mirror: Some(&base),
        extras: Some(extras()),
        cache: cache.path(),
        limits: quick(),
    };
    let good = ensure(&request, &Silent).unwrap();
    let content = fs::read(&good.volume).unwrap();
    let manifest = good.volume.with_file_name("manifest.json");
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[5000] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let damages: [(&str, &dyn Fn()); 6] = [
        ("size", &|| fs::write(&good.volume, "short").unwrap()),
        ("content", &|| flip(&good.volume)),
        ("kubectl", &|| fs::remove_file(&good.kubectl).unwrap()),
        ("buildctl", &|| fs::write(&good.buildctl, "x").unwrap()),
        ("no manifest", &|| fs::remove_file(&manifest).unwrap()),
        ("half a manifest", &|| {
            fs::write(&manifest, "{\"format\":2,").unwrap()
        }),
    ];
    for (name, damage) in damages {
        damage();
        let warnings = Warnings::default();
        let again = ensure(&request, &warnings).unwrap();
        assert_eq!(again, good, "{name}");
        assert!(fs::read(&again.volume).unwrap() == content, "{name}");
        let warnings = warnings.0.into_inner().unwrap();
        assert!(
            warnings.len() == 1 && warnings[0].contains("damaged"),
            "{name}: {warnings:?}"
        );
    }
    // A set of a kubby with another format is none of our business.
    let foreign = cache
        .path()
        .join(format!("components/{}-0123", version::DEFAULT));
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("manifest.json"), "{\"format\":99}").unwrap();
    ensure(&request, &Silent).unwrap();
    assert!(foreign.exists());
}

#[test]
fn what_killed_runs_left_is_removed() {
    let server = serve(mirror(), |_, _| None);
    let cache = tempfile::tempdir().unwrap();
    let left = cache
        .path()
        .join(format!("components/.making-{}-1", version::DEFAULT));
    fs::create_dir_all(left.join("stage")).unwrap();
    from_mirror(&server, cache.path(), Source::Auto).unwrap();
    assert!(!left.exists());
}

#[test]
fn several_at_once_download_once() {
    let server = serve(mirror(), |_, _| None);
    let cache = tempfile::tempdir().unwrap();
    let sets: Vec<ComponentSet> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| from_mirror(&server, cache.path(), Source::Auto).unwrap()))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(sets.iter().all(|set| *set == sets[0]));
    let fetched = server
        .requests()
        .iter()
        .filter(|r| r.path.ends_with("/kubelet"))
        .count();
    assert_eq!(fetched, 1);
}
