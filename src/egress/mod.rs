//! The settings by which a node reaches the world as this host does: mirrors of registries,
//! proxies, private authorities, name servers.
//!
//! [`Settings`] is what the user gave, kept in the profile. What the host itself is set to is
//! looked up at each start ([`HostFacts`]), and both together are an [`Egress`], which
//! `provision` turns into files of the node.

pub(crate) mod address;
mod args;
pub(crate) mod certificates;
pub(crate) mod dns;
mod facts;
pub(crate) mod proxy;
pub(crate) mod registries;

pub(crate) use args::EgressArgs;
pub(crate) use dns::Dns;
pub(crate) use facts::HostFacts;
pub(crate) use proxy::Proxy;
pub(crate) use registries::Registries;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The word that empties a list that an earlier start was given.
pub(crate) const NONE: &str = "none";

/// The user's settings, as they are kept in the profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `[HOST=]URL` each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub registry_mirrors: Vec<String>,
    /// Hosts, perhaps with ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub insecure_registries: Vec<String>,
    /// Name servers, perhaps with ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// Certificates of authorities in PEM: the files may be gone when the cluster comes back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ca_certificates: Vec<String>,
}

impl Settings {
    /// Returns whether nothing was given.
    pub fn is_empty(&self) -> bool {
        *self == Settings::default()
    }

    /// Takes over what is given now; a list that is not given stays, [`NONE`] empties one.
    pub fn update(&mut self, given: &Settings) {
        let pairs = [
            (&mut self.registry_mirrors, &given.registry_mirrors),
            (&mut self.insecure_registries, &given.insecure_registries),
            (&mut self.dns, &given.dns),
            (&mut self.ca_certificates, &given.ca_certificates),
        ];
        for (here, given) in pairs {
            if given.iter().any(|g| g == NONE) {
                here.clear();
            } else if !given.is_empty() {
                here.clone_from(given);
            }
        }
    }
}

/// The registries, proxies, authorities and name servers of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Egress {
    /// Registries by the host in an image's name.
    pub registries: Registries,
    /// Proxies.
    pub proxy: Proxy,
    /// Certificates of authorities in PEM.
    pub certificates: Vec<String>,
    /// Name servers and search domains.
    pub dns: Dns,
}

impl Egress {
    /// Puts together what the user gave and what the host has. The second part of the result are
    /// warnings: a file of the host's that cannot be read does not keep a cluster from starting.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::error::Kind::Usage) for a proxy in the environment that makes no sense, [`Kind::State`](crate::error::Kind::State) for a
    /// damaged profile.
    pub(crate) fn gather(settings: &Settings, host: &HostFacts) -> Result<(Self, Vec<String>)> {
        let damaged =
            |what: &str, why: String| Error::state(format!("the profile's {what}: {why}"));
        let mut warnings = Vec::new();
        let mut registries = Registries::default();
        for text in &settings.registry_mirrors {
            let (host, endpoint) =
                registries::parse_mirror(text).map_err(|e| damaged("registry_mirrors", e))?;
            registries.add_mirror(host, endpoint);
        }
        for text in &settings.insecure_registries {
            let host =
                registries::parse_host(text).map_err(|e| damaged("insecure_registries", e))?;
            registries.add_insecure(host);
        }
        host.add_registries(&mut registries, &mut warnings);
        let mut found = settings.ca_certificates.clone();
        for certificate in host.authorities(&mut warnings) {
            if !found.contains(&certificate) {
                found.push(certificate);
            }
        }
        let (search, warning) = dns::of_host(&host.resolv_conf);
        if settings.dns.is_empty() {
            warnings.extend(warning);
        }
        let servers = settings
            .dns
            .iter()
            .map(|text| dns::parse_server(text).map_err(|e| damaged("dns", e)))
            .collect::<Result<_>>()?;
        let egress = Egress {
            registries,
            proxy: proxy::from_environment(|name| host.variable(name))?,
            certificates: found,
            dns: Dns { servers, search },
        };
        Ok((egress, warnings))
    }

    /// Ports of the host's loopback that the node's own processes have to be let through to.
    pub(crate) fn host_ports(&self) -> BTreeSet<u16> {
        let mut ports = self.registries.host_ports();
        ports.extend(&self.proxy.host_ports);
        ports
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_stays_and_none_empties() {
        let list = |items: &[&str]| items.iter().map(|i| (*i).to_owned()).collect::<Vec<_>>();
        let mut settings = Settings {
            registry_mirrors: list(&["https://a"]),
            dns: list(&["10.1.1.1"]),
            ..Settings::default()
        };
        settings.update(&Settings {
            dns: list(&[NONE]),
            insecure_registries: list(&["r"]),
            ..Settings::default()
        });
        assert_eq!(
            settings,
            Settings {
                registry_mirrors: list(&["https://a"]),
                insecure_registries: list(&["r"]),
                ..Settings::default()
            }
        );
    }

    #[test]
    fn the_users_mirrors_come_before_the_hosts() {
        let settings = Settings {
            registry_mirrors: vec!["https://given.example".into()],
            dns: vec!["10.1.1.1".into()],
            ..Settings::default()
        };
        let host = HostFacts {
            docker: Some((
                "/etc/docker/daemon.json".into(),
                r#"{"registry-mirrors": ["http://127.0.0.1:5000"]}"#.into(),
            )),
            authorities: vec![("/a.crt".into(), "not a certificate".into())],
            resolv_conf: "search corp.example\nnameserver ::1\n".into(),
            environment: vec![("HTTP_PROXY".into(), "http://127.0.0.1:3128".into())],
            ..HostFacts::default()
        };
        let (egress, warnings) = Egress::gather(&settings, &host).unwrap();
        let mirrors = &egress.registries.0["docker.io"].mirrors;
        assert_eq!(mirrors[0].address.host, "given.example");
        assert_eq!(mirrors[1].address.host, "127.0.0.1");
        assert_eq!(
            egress.host_ports().into_iter().collect::<Vec<_>>(),
            [3128, 5000]
        );
        assert_eq!(egress.dns.search, ["corp.example"]);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("/a.crt"), "{warnings:?}");
    }

    #[test]
    fn a_plain_host_asks_for_nothing() {
        let host = HostFacts {
            resolv_conf: "nameserver 10.0.0.1\n".into(),
            ..HostFacts::default()
        };
        let (egress, warnings) = Egress::gather(&Settings::default(), &host).unwrap();
        assert_eq!((egress, warnings), (Egress::default(), vec![]));
    }
}
