//! Mirrors of image registries and registries without trusted TLS, for containerd.

mod host;

pub(crate) use host::{from_certs_d, from_docker, from_docker_certs, from_registries_conf};

use std::collections::{BTreeMap, BTreeSet};

use super::address::{Address, split_port};

/// The registry of mirrors that are given without a host's name.
pub(crate) const DEFAULT_HOST: &str = "docker.io";

/// A place to get a registry's images from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Its address, as this host sees it.
    pub address: Address,
    /// Take any certificate.
    pub skip_verify: bool,
    /// The address has the API's `/v2` in its path already.
    pub override_path: bool,
}

impl Endpoint {
    fn new(address: Address) -> Self {
        Endpoint {
            address,
            skip_verify: false,
            override_path: false,
        }
    }
}

/// The settings of one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Registry {
    /// Places to try before the registry itself, in order.
    pub mirrors: Vec<Endpoint>,
    /// The registry itself may have any certificate, or no TLS at all.
    pub insecure: bool,
    /// Certificates in PEM that it may have, beside those that everybody trusts.
    pub certificates: Vec<String>,
}

/// All registries that something is known of, by the host in an image's name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Registries(pub BTreeMap<String, Registry>);

impl Registries {
    /// Adds the settings of another source after those that are here already.
    pub(crate) fn merge(&mut self, other: Registries) {
        for (host, registry) in other.0 {
            let here = self.0.entry(host).or_default();
            for mirror in registry.mirrors {
                if !here.mirrors.iter().any(|m| m.address == mirror.address) {
                    here.mirrors.push(mirror);
                }
            }
            here.insecure |= registry.insecure;
            for certificate in registry.certificates {
                if !here.certificates.contains(&certificate) {
                    here.certificates.push(certificate);
                }
            }
        }
        self.0.retain(|_, r| *r != Registry::default());
    }

    /// Adds a mirror.
    pub(crate) fn add_mirror(&mut self, host: String, endpoint: Endpoint) {
        let mut one = Registries::default();
        one.0.entry(host).or_default().mirrors.push(endpoint);
        self.merge(one);
    }

    /// Marks a registry as one whose certificate is not checked.
    pub(crate) fn add_insecure(&mut self, host: String) {
        self.0.entry(host).or_default().insecure = true;
    }

    /// Ports of the host's loopback that the node has to be let through to.
    pub(crate) fn host_ports(&self) -> BTreeSet<u16> {
        let all = self.0.iter().flat_map(|(host, r)| r.places(host));
        all.filter_map(|place| place.address.in_node().1).collect()
    }
}

impl Registry {
    /// Returns all places to try, in order, as this host sees them.
    fn places(&self, host: &str) -> Vec<Endpoint> {
        let mut all = self.mirrors.clone();
        let own = |scheme: &str| Address::parse(&format!("{scheme}://{host}"), scheme).ok();
        if self.insecure {
            all.extend(own("https").map(|address| Endpoint {
                skip_verify: true,
                ..Endpoint::new(address)
            }));
            all.extend(own("http").map(Endpoint::new));
        } else if !self.certificates.is_empty() {
            all.extend(own("https").map(Endpoint::new));
        }
        all
    }

    /// Returns containerd's `hosts.toml`. `ca` is the path of the file with its certificates.
    pub(crate) fn hosts_toml(&self, host: &str, ca: &str) -> String {
        let server = match host {
            DEFAULT_HOST => "https://registry-1.docker.io".to_owned(),
            _ if self.insecure => format!("http://{host}"),
            _ => format!("https://{host}"),
        };
        let server = Address::parse(&server, "https").map_or(server, |a| a.in_node().0.to_string());
        let mut text = match host {
            // The rule for all others has no registry of its own.
            "_default" => String::new(),
            _ => format!("server = {}\n", quote(&server)),
        };
        for place in self.places(host) {
            let Endpoint {
                address,
                skip_verify,
                override_path,
            } = place;
            let url = quote(&address.in_node().0.to_string());
            text.push_str(&format!(
                "\n[host.{url}]\n  capabilities = [\"pull\", \"resolve\"]\n"
            ));
            if skip_verify {
                text.push_str("  skip_verify = true\n");
            }
            if override_path {
                text.push_str("  override_path = true\n");
            }
            if !self.certificates.is_empty() && address.scheme == "https" {
                text.push_str(&format!("  ca = {}\n", quote(ca)));
            }
        }
        text
    }
}

/// Returns a TOML string: what JSON escapes TOML reads the same way.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Reads `[HOST=]URL`, as `--registry-mirror` takes it.
///
/// # Errors
/// The reason for which it is not a mirror.
pub(crate) fn parse_mirror(text: &str) -> Result<(String, Endpoint), String> {
    let (host, url) = match text.split_once('=') {
        Some((host, url)) if !host.contains("://") => (parse_host(host)?, url),
        _ => (DEFAULT_HOST.to_owned(), text),
    };
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err("write it like https://mirror.example or quay.io=http://127.0.0.1:5000".into());
    }
    let address = Address::parse(url, "https")?;
    if address.user.is_some() {
        return Err(
            "a mirror's URL cannot hold a password; use imagePullSecrets for the registry".into(),
        );
    }
    let override_path = !address.path.is_empty();
    let address = Address {
        // A path stands in front of the API, as minikube and Docker have it.
        path: if override_path && !address.path.contains("/v2") {
            format!("{}/v2", address.path)
        } else {
            address.path.clone()
        },
        ..address
    };
    Ok((
        host,
        Endpoint {
            override_path,
            ..Endpoint::new(address)
        },
    ))
}

/// Reads the host of an image's name, with its port if it has one.
///
/// # Errors
/// The reason for which it is not a registry's host.
pub(crate) fn parse_host(text: &str) -> Result<String, String> {
    if text.contains("://") || text.contains('/') {
        return Err(format!(
            "`{text}` is not a registry's host; write it without a scheme and a path, like registry.example:5000"
        ));
    }
    let (host, port) = split_port(text).map_err(|why| format!("`{text}`: {why}"))?;
    Ok(match port {
        Some(port) => format!("{host}:{port}"),
        None if host == "index.docker.io" || host == "registry-1.docker.io" => {
            DEFAULT_HOST.to_owned()
        }
        None => host,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_read() {
        for (text, host, url, path) in [
            ("https://m.example", "docker.io", "https://m.example", false),
            (
                "quay.io=http://127.0.0.1:5000/",
                "quay.io",
                "http://127.0.0.1:5000",
                false,
            ),
            (
                "ghcr.io=https://m.example/ghcr",
                "ghcr.io",
                "https://m.example/ghcr/v2",
                true,
            ),
            (
                "https://m.example/v2/a?x=y",
                "docker.io",
                "https://m.example/v2/a?x=y",
                true,
            ),
            ("index.docker.io=https://m", "docker.io", "https://m", false),
        ] {
            let (h, endpoint) = parse_mirror(text).unwrap();
            assert_eq!(
                (h.as_str(), endpoint.address.to_string().as_str()),
                (host, url)
            );
            assert_eq!(endpoint.override_path, path, "{text}");
        }
        for text in [
            "",
            "m.example",
            "quay.io=",
            "a/b=https://m",
            "ftp://m",
            "https://u:p@m",
            "=https://m",
            "https://",
            "x y=https://m",
        ] {
            assert!(parse_mirror(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hosts_are_read() {
        assert_eq!(parse_host("R.example:5000").unwrap(), "r.example:5000");
        for text in ["", "https://a", "a/b", "a:b", "a b", "..", "10.0.0.0/8"] {
            assert!(parse_host(text).is_err(), "{text}");
        }
    }

    #[test]
    fn mirrors_come_before_the_registry_and_loopback_is_the_host() {
        let mut all = Registries::default();
        let (host, endpoint) = parse_mirror("http://localhost:5000").unwrap();
        all.add_mirror(host.clone(), endpoint.clone());
        all.add_mirror(host, endpoint);
        let toml = all.0["docker.io"].hosts_toml("docker.io", "/x");
        insta::assert_snapshot!(toml, @r#"
        server = "https://registry-1.docker.io"

        [host."http://10.0.2.2:5000"]
          capabilities = ["pull", "resolve"]
        "#);
        assert_eq!(all.host_ports().into_iter().collect::<Vec<_>>(), [5000]);
    }

    #[test]
    fn an_insecure_registry_is_tried_with_tls_first() {
        let mut all = Registries::default();
        all.add_insecure("localhost:5001".into());
        let toml = all.0["localhost:5001"].hosts_toml("localhost:5001", "/x");
        insta::assert_snapshot!(toml, @r#"
        server = "http://10.0.2.2:5001"

        [host."https://10.0.2.2:5001"]
          capabilities = ["pull", "resolve"]
          skip_verify = true

        [host."http://10.0.2.2:5001"]
          capabilities = ["pull", "resolve"]
        "#);
        assert_eq!(all.host_ports().into_iter().collect::<Vec<_>>(), [5001]);
        assert!(toml.parse::<toml::Table>().is_ok());
    }

    #[test]
    fn a_registrys_own_certificate_is_for_it_alone() {
        let registry = Registry {
            certificates: vec!["pem".into()],
            ..Registry::default()
        };
        insta::assert_snapshot!(registry.hosts_toml("r.example", "/ca.crt"), @r#"
        server = "https://r.example"

        [host."https://r.example"]
          capabilities = ["pull", "resolve"]
          ca = "/ca.crt"
        "#);
    }
}
