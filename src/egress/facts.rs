//! The settings of this host, read from its files and the environment.

use std::path::{Path, PathBuf};

use super::certificates;
use super::registries::{self, Registries};

/// The size above which a file is not read, in bytes.
const MOST_BYTES: u64 = 1 << 20;

/// Texts of the host's files, with their paths for messages. Not to be printed: a proxy's URL may
/// hold a password.
#[derive(Clone, Default)]
pub struct HostFacts {
    /// Docker's `daemon.json`.
    pub docker: Option<(PathBuf, String)>,
    /// Podman's `registries.conf` and the files of `registries.conf.d`, in order.
    pub podman: Vec<(PathBuf, String)>,
    /// containerd's `hosts.toml` files.
    pub containerd: Vec<(PathBuf, String)>,
    /// Docker's certificates of single registries.
    pub docker_certificates: Vec<(PathBuf, String)>,
    /// Certificates that the host's administrator added.
    pub authorities: Vec<(PathBuf, String)>,
    /// `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// Variables for proxies.
    pub environment: Vec<(String, String)>,
}

impl HostFacts {
    /// Looks at this host.
    pub(crate) fn read() -> Self {
        let names = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];
        let both = names
            .iter()
            .flat_map(|name| [(*name).to_owned(), name.to_ascii_lowercase()]);
        let environment = both
            .filter_map(|name| Some((name.clone(), std::env::var(&name).ok()?)))
            .collect();
        HostFacts {
            environment,
            ..HostFacts::read_at(Path::new("/"))
        }
    }

    /// Looks at a file system.
    fn read_at(root: &Path) -> Self {
        let at = |path: &str| root.join(path);
        let in_folders = |folder: &str, file: &str| -> Vec<(PathBuf, String)> {
            let folders = entries(&at(folder)).into_iter();
            folders.filter_map(|f| read(&f.join(file))).collect()
        };
        let mut podman: Vec<_> = read(&at("etc/containers/registries.conf"))
            .into_iter()
            .collect();
        podman.extend(files(&at("etc/containers/registries.conf.d"), &["conf"]));
        let mut authorities = Vec::new();
        for folder in [
            "usr/local/share/ca-certificates",
            "etc/pki/ca-trust/source/anchors",
            "etc/pki/trust/anchors",
            "etc/ca-certificates/trust-source/anchors",
        ] {
            authorities.extend(files(&at(folder), &["crt", "pem", "cer"]));
        }
        HostFacts {
            docker: read(&at("etc/docker/daemon.json")),
            podman,
            containerd: in_folders("etc/containerd/certs.d", "hosts.toml"),
            docker_certificates: in_folders("etc/docker/certs.d", "ca.crt"),
            authorities,
            resolv_conf: read(&at("etc/resolv.conf")).map_or_else(String::new, |(_, text)| text),
            environment: Vec::new(),
        }
    }

    /// Returns a variable of the environment.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        let found = self.environment.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.clone())
    }

    /// Adds what the host's programs know of registries.
    pub(crate) fn add_registries(&self, all: &mut Registries, warnings: &mut Vec<String>) {
        let mut add = |path: &Path, found: Result<Registries, String>| match found {
            Ok(found) => all.merge(found),
            Err(why) => warnings.push(format!(
                "{} is not taken over into the node: {why}",
                path.display()
            )),
        };
        let folder = |path: &Path| -> String {
            let name = path.parent().and_then(Path::file_name);
            name.map_or_else(String::new, |n| n.to_string_lossy().into_owned())
        };
        for (path, text) in &self.containerd {
            let host = folder(path);
            // The rule for all others: containerd in the node knows it by the same name.
            add(path, registries::from_certs_d(&host, text));
        }
        for (path, text) in &self.podman {
            add(path, registries::from_registries_conf(text));
        }
        if let Some((path, text)) = &self.docker {
            add(path, registries::from_docker(text));
        }
        for (path, text) in &self.docker_certificates {
            add(path, registries::from_docker_certs(&folder(path), text));
        }
    }

    /// Returns the certificates that the host's administrator added.
    pub(crate) fn authorities(&self, warnings: &mut Vec<String>) -> Vec<String> {
        let mut all = Vec::new();
        for (path, text) in &self.authorities {
            match certificates::parse(text) {
                Ok(found) => all.extend(found),
                Err(why) => warnings.push(format!(
                    "{} is not taken over into the node: it {why}",
                    path.display()
                )),
            }
        }
        all
    }
}

/// Returns the entries of a folder, sorted; none where the folder does not exist.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(folder).into_iter().flatten();
    let mut all: Vec<PathBuf> = found.filter_map(|e| Some(e.ok()?.path())).collect();
    all.sort();
    all
}

/// Returns the files with one of these endings below a folder.
fn files(folder: &Path, endings: &[&str]) -> Vec<(PathBuf, String)> {
    let mut all = Vec::new();
    for path in entries(folder) {
        let ending = path.extension().and_then(|e| e.to_str());
        if path.is_dir() && !path.is_symlink() {
            all.extend(files(&path, endings));
        } else if ending.is_some_and(|e| endings.contains(&e)) {
            all.extend(read(&path));
        }
    }
    all
}

/// Reads a file; `None` also for a file that this user may not read.
fn read(path: &Path) -> Option<(PathBuf, String)> {
    let size = std::fs::metadata(path).ok().filter(|m| m.is_file())?.len();
    if size > MOST_BYTES {
        return None;
    }
    Some((path.to_owned(), std::fs::read_to_string(path).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_where_distributions_have_them() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("etc/docker/daemon.json", "{}"),
            ("etc/docker/certs.d/r.example:5000/ca.crt", "x"),
            ("etc/containers/registries.conf", "b"),
            ("etc/containers/registries.conf.d/10-a.conf", "a"),
            ("etc/containers/registries.conf.d/README", "no"),
            ("etc/containerd/certs.d/quay.io/hosts.toml", "[["),
            ("usr/local/share/ca-certificates/corp/root.crt", "deb"),
            ("etc/pki/ca-trust/source/anchors/root.pem", "rpm"),
            ("etc/pki/trust/anchors/root.pem", "suse"),
            ("etc/resolv.conf", "nameserver 10.0.0.1\n"),
        ] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let facts = HostFacts::read_at(root.path());
        assert!(facts.docker.is_some() && facts.resolv_conf.contains("10.0.0.1"));
        let texts = |list: &[(PathBuf, String)]| -> Vec<String> {
            list.iter().map(|(_, text)| text.clone()).collect()
        };
        assert_eq!(texts(&facts.podman), ["b", "a"]);
        assert_eq!(texts(&facts.authorities), ["deb", "rpm", "suse"]);
        let mut warnings = Vec::new();
        let mut all = Registries::default();
        facts.add_registries(&mut all, &mut warnings);
        assert_eq!(all, Registries::default());
        assert!(
            warnings.iter().any(|w| w.contains("quay.io/hosts.toml"))
                && warnings.iter().any(|w| w.contains("r.example:5000/ca.crt")),
            "{warnings:?}"
        );
    }

    #[test]
    fn an_empty_host_has_nothing() {
        let root = tempfile::tempdir().unwrap();
        let facts = HostFacts::read_at(root.path());
        assert!(facts.docker.is_none() && facts.authorities.is_empty());
    }
}
