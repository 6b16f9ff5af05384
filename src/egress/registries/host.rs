//! Registries in this host's configuration of Docker, Podman and containerd.

use serde_json::Value;
use toml::Table;

use super::super::address::Address;
use super::super::certificates;
use super::{DEFAULT_HOST, Endpoint, Registries, Registry, parse_host, parse_mirror};

/// Reads Docker's `daemon.json`. Ranges of addresses among the insecure registries have no form
/// in containerd's configuration and are left out.
///
/// # Errors
/// The reason for which the file cannot be used.
pub(crate) fn from_docker(text: &str) -> Result<Registries, String> {
    let config: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let strings = |key: &str| -> Vec<String> {
        let list = config[key].as_array().cloned().unwrap_or_default();
        list.iter()
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect()
    };
    let mut all = Registries::default();
    for url in strings("registry-mirrors") {
        let (_, endpoint) = parse_mirror(&url).map_err(|e| format!("registry-mirrors: {e}"))?;
        all.add_mirror(DEFAULT_HOST.to_owned(), endpoint);
    }
    for host in strings("insecure-registries") {
        if host.contains('/') {
            continue;
        }
        all.add_insecure(parse_host(&host).map_err(|e| format!("insecure-registries: {e}"))?);
    }
    // Docker takes a mirror that is listed as insecure without checking its certificate.
    let insecure: Vec<String> = all
        .0
        .iter()
        .filter(|(_, r)| r.insecure)
        .map(|(host, _)| host.clone())
        .collect();
    for mirror in all.0.values_mut().flat_map(|r| &mut r.mirrors) {
        let place = mirror.address.port.map_or_else(
            || mirror.address.host.clone(),
            |port| format!("{}:{port}", mirror.address.host),
        );
        mirror.skip_verify = mirror.address.scheme == "https" && insecure.contains(&place);
    }
    Ok(all)
}

/// Reads a `registries.conf` of Podman, version 2. Rules for parts of a registry, by a path, have
/// no form in containerd's configuration and are left out.
///
/// # Errors
/// The reason for which the file cannot be used.
pub(crate) fn from_registries_conf(text: &str) -> Result<Registries, String> {
    let config: Table = text.parse().map_err(|e: toml::de::Error| e.to_string())?;
    let mut all = Registries::default();
    for registry in tables(&config, "registry") {
        let location = string(registry, "location");
        let Some(prefix) = string(registry, "prefix").or(location) else {
            continue;
        };
        let (Ok(host), false) = (parse_host(prefix), boolean(registry, "blocked")) else {
            continue;
        };
        for mirror in tables(registry, "mirror") {
            if let Some(place) = string(mirror, "location") {
                let endpoint = endpoint(place, boolean(mirror, "insecure"))?;
                all.add_mirror(host.clone(), endpoint);
            }
        }
        match location {
            Some(place) if place != prefix => {
                let endpoint = endpoint(place, boolean(registry, "insecure"))?;
                all.add_mirror(host, endpoint);
            }
            _ if boolean(registry, "insecure") => all.add_insecure(host),
            _ => {}
        }
    }
    Ok(all)
}

/// Reads a location of Podman: a host, and perhaps a path that comes before the image's name.
fn endpoint(location: &str, insecure: bool) -> Result<Endpoint, String> {
    // Podman would try both; a port other than TLS's own is most likely one without TLS.
    let scheme = if insecure { "http" } else { "https" };
    let address = Address::parse(&format!("{scheme}://{location}"), scheme)
        .map_err(|e| format!("`{location}`: {e}"))?;
    let path = address.path.clone();
    Ok(Endpoint {
        override_path: !path.is_empty(),
        address: Address {
            path: if path.is_empty() {
                path
            } else {
                format!("/v2{path}")
            },
            ..address
        },
        skip_verify: false,
    })
}

/// Reads the `hosts.toml` that containerd on this host has for a registry.
///
/// # Errors
/// The reason for which the file cannot be used.
pub(crate) fn from_certs_d(host: &str, text: &str) -> Result<Registries, String> {
    let config: Table = text.parse().map_err(|e: toml::de::Error| e.to_string())?;
    let host = parse_host(host)?;
    let mut all = Registries::default();
    let hosts = config.get("host").and_then(toml::Value::as_table);
    for (url, settings) in hosts.into_iter().flatten() {
        let settings = settings.as_table().cloned().unwrap_or_default();
        let pulls = settings
            .get("capabilities")
            .and_then(toml::Value::as_array)
            .is_none_or(|list| list.iter().any(|c| c.as_str() == Some("pull")));
        if !pulls {
            continue;
        }
        let address = Address::parse(url, "https").map_err(|e| format!("host: {e}"))?;
        let endpoint = Endpoint {
            address,
            skip_verify: boolean(&settings, "skip_verify"),
            override_path: boolean(&settings, "override_path"),
        };
        all.add_mirror(host.clone(), endpoint);
    }
    Ok(all)
}

/// Reads the certificate that Docker on this host trusts for one registry.
///
/// # Errors
/// The reason for which the file cannot be used.
pub(crate) fn from_docker_certs(host: &str, pem: &str) -> Result<Registries, String> {
    let mut all = Registries::default();
    let registry = Registry {
        certificates: certificates::parse(pem)?,
        ..Registry::default()
    };
    all.0.insert(parse_host(host)?, registry);
    Ok(all)
}

fn tables<'a>(table: &'a Table, key: &str) -> Vec<&'a Table> {
    let list = table.get(key).and_then(toml::Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(toml::Value::as_table)
        .collect()
}

fn string<'a>(table: &'a Table, key: &str) -> Option<&'a str> {
    table.get(key)?.as_str().filter(|s| !s.is_empty())
}

fn boolean(table: &Table, key: &str) -> bool {
    table.get(key).and_then(toml::Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(all: &Registries, host: &str) -> Vec<String> {
        let mirrors = all.0[host].mirrors.iter();
        mirrors.map(|m| m.address.to_string()).collect()
    }

    #[test]
    fn docker_is_understood() {
        let all = from_docker(
            r#"{"registry-mirrors": ["https://m.example/", "http://127.0.0.1:5000"],
                "insecure-registries": ["10.0.0.0/8", "r.example:5000", "m.example"], "debug": true}"#,
        )
        .unwrap();
        assert_eq!(
            urls(&all, "docker.io"),
            ["https://m.example", "http://127.0.0.1:5000"]
        );
        assert!(all.0["docker.io"].mirrors[0].skip_verify);
        assert!(all.0["r.example:5000"].insecure);
        assert_eq!(from_docker("{}").unwrap(), Registries::default());
        assert!(from_docker("{").is_err());
        assert!(from_docker(r#"{"registry-mirrors": ["m"]}"#).is_err());
    }

    #[test]
    fn podman_is_understood() {
        let all = from_registries_conf(
            r#"
unqualified-search-registries = ["docker.io"]
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "m.example/hub"
[[registry.mirror]]
location = "localhost:5000"
insecure = true
[[registry]]
prefix = "old.example"
location = "new.example"
[[registry]]
location = "plain.example:80"
insecure = true
[[registry]]
prefix = "docker.io/library"
location = "part.example"
[[registry]]
location = "bad.example"
blocked = true
"#,
        )
        .unwrap();
        assert_eq!(
            urls(&all, "docker.io"),
            ["https://m.example/v2/hub", "http://localhost:5000"]
        );
        assert!(all.0["docker.io"].mirrors[0].override_path);
        assert_eq!(urls(&all, "old.example"), ["https://new.example"]);
        assert!(all.0["plain.example:80"].insecure);
        assert_eq!(all.0.len(), 3, "{all:?}");
        assert!(from_registries_conf("[[").is_err());
    }

    #[test]
    fn containerd_is_understood() {
        let all = from_certs_d(
            "quay.io",
            "server = \"https://quay.io\"\n[host.\"https://m.example/v2/quay\"]\n\
             capabilities = [\"pull\"]\nskip_verify = true\noverride_path = true\n\
             [host.\"https://push.example\"]\ncapabilities = [\"push\"]\n",
        )
        .unwrap();
        assert_eq!(urls(&all, "quay.io"), ["https://m.example/v2/quay"]);
        let mirror = &all.0["quay.io"].mirrors[0];
        assert!(mirror.skip_verify && mirror.override_path);
        assert!(from_certs_d("_default", "[host.\"https://a\"]").is_ok());
        assert!(from_certs_d("a/b", "").is_err());
    }
}
