//! The flags about registries, certificate authorities and name servers.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{NONE, Settings, certificates, dns, registries};
use crate::error::{Error, Result};

/// The flags about registries and names. Each is kept for later starts; `none` clears it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Registries and names")]
pub struct EgressArgs {
    /// Pull images of HOST from this mirror (may be repeated) [default: the mirrors that Docker,
    /// Podman or containerd use on this host]
    #[arg(long, value_name = "[HOST=]URL", value_parser = mirror)]
    pub registry_mirror: Vec<String>,
    /// Allow this registry without trusted TLS (may be repeated)
    #[arg(long, value_name = "HOST[:PORT]", value_parser = registry)]
    pub insecure_registry: Vec<String>,
    /// Trust the CA certificates in this PEM file for registries (may be repeated) [default: those
    /// that this host's administrator has added]
    #[arg(long, value_name = "FILE")]
    pub ca_certificate: Vec<PathBuf>,
    /// Name servers, separated by commas [default: the host's first]
    #[arg(long, value_name = "ADDRESS[:PORT]", value_delimiter = ',', value_parser = server)]
    pub dns: Vec<String>,
}

impl EgressArgs {
    /// Returns the settings as the profile keeps them, with the content of the files.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::error::Kind::Usage) for a file that contains no certificates.
    pub fn settings(&self) -> Result<Settings> {
        let mut ca_certificates: Vec<String> = Vec::new();
        for file in &self.ca_certificate {
            if file == Path::new(NONE) {
                ca_certificates.push(NONE.to_owned());
                continue;
            }
            let bad = |why: &str| {
                Error::usage(format!("--ca-certificate: {} {why}", file.display()))
                    .with_hint("openssl x509 -in FILE -outform PEM makes PEM of other formats")
            };
            let text = std::fs::read(file).map_err(|e| bad("cannot be read").with_source(e))?;
            let text = String::from_utf8_lossy(&text);
            for certificate in certificates::parse(&text).map_err(|why| bad(&why))? {
                if !ca_certificates.contains(&certificate) {
                    ca_certificates.push(certificate);
                }
            }
        }
        Ok(Settings {
            registry_mirrors: self.registry_mirror.clone(),
            insecure_registries: self.insecure_registry.clone(),
            dns: self.dns.clone(),
            ca_certificates,
        })
    }
}

/// Checks a value with `parse` unless it is [`NONE`].
fn checked<T>(
    text: &str,
    parse: impl FnOnce(&str) -> std::result::Result<T, String>,
) -> std::result::Result<String, String> {
    if text != NONE {
        parse(text)?;
    }
    Ok(text.to_owned())
}

fn mirror(text: &str) -> std::result::Result<String, String> {
    checked(text, registries::parse_mirror)
}

fn registry(text: &str) -> std::result::Result<String, String> {
    checked(text, registries::parse_host)
}

fn server(text: &str) -> std::result::Result<String, String> {
    checked(text, dns::parse_server)
}
