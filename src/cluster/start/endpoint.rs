//! The step that makes the API's address on the host lead to each control plane that is ready.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::cluster::machine::ports;
use crate::cluster::start::context::{Flow, Start};
use crate::endpoint::Endpoint;
use crate::error::Result;
use crate::hypervisor;
use crate::pki::CertName;
use crate::role::Role;
use crate::units::hex;

/// Starts the program, or changes its configuration; ends it where the cluster needs it no more.
pub(super) fn run(start: &mut Start<'_>) -> Result<Flow> {
    let endpoint = Endpoint::of(&start.cluster.dir);
    let Some(port) = start.cluster.profile.endpoint else {
        endpoint.stop()?;
        return Ok(Flow::Next);
    };
    start.pki(0)?;
    let port = free_port(start, &endpoint, port)?;
    let servers = start.cluster.profile.of_role(Role::ControlPlane);
    let servers = servers.filter_map(|node| Some((node.name.as_str(), node.ports.api?)));
    let servers: Vec<(&str, u16)> = servers.collect();
    let authority = start.cluster.dir.pki().join("ca.crt");
    let mut config = Endpoint::config(port, &authority, &servers);
    // It reads the authority once only.
    let digest = hex(&Sha256::digest(start.known_pki()?.cert(CertName::Ca)));
    let _ = writeln!(config, "# The authority's digest: {digest}");
    let count = servers.len();
    if start.env.backend.ensure_endpoint(&endpoint, &config)? {
        let step = start.env.progress.step("Open the API's address");
        step.done(format!("127.0.0.1:{port} leads to {count} control planes"));
    }
    Ok(Flow::Next)
}

/// Returns the endpoint's port; another one where another program has taken it.
fn free_port(start: &mut Start<'_>, endpoint: &Endpoint, port: u16) -> Result<u16> {
    if endpoint.runs().is_some() {
        return Ok(port);
    }
    match hypervisor::ports::check_free(port, "--api-port") {
        Ok(()) => Ok(port),
        Err(e) if start.options.cluster.ports.api_port.is_some() => Err(e),
        Err(_) => {
            let _shared = start.env.lock_shared()?;
            let new = ports::choose_one(start.env.store, &start.cluster.profile)?;
            start.env.progress.warn(&format!(
                "port {port} is taken by another program; using {new} instead"
            ));
            start.cluster.profile.endpoint = Some(new);
            start.cluster.save()?;
            Ok(new)
        }
    }
}
