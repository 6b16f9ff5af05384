//! `kubby port` and `kubby ip`.

use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use crate::cli::PortName;
use crate::cluster::Cluster;
use crate::error::{Error, Result};

/// Runs `kubby port`.
pub(super) fn run(
    context: &Context,
    node: Option<&str>,
    name: Option<PortName>,
) -> Result<ExitCode> {
    let cluster = Cluster::open(&context.store, &context.global.profile)?;
    // Without a name the cluster's own address is meant, which may be that of several control planes.
    let endpoint = cluster.profile.endpoint.filter(|_| node.is_none());
    let node = cluster.find_node(node)?;
    let (api, ssh) = (endpoint.or(node.ports.api), node.ports.ssh);
    let text = match (name, api) {
        (Some(PortName::Api), Some(api)) => format!("{api}\n"),
        (Some(PortName::Api), None) => {
            let message = format!("`{}` is a worker and has no API server", node.name);
            return Err(Error::usage(message).with_hint("leave out --node"));
        }
        (Some(PortName::Ssh), _) => format!("{ssh}\n"),
        (None, Some(api)) => format!("api 127.0.0.1:{api}\nssh 127.0.0.1:{ssh}\n"),
        (None, None) => format!("ssh 127.0.0.1:{ssh}\n"),
    };
    let ports = match api {
        Some(api) => json!({"api": api, "ssh": ssh}),
        None => json!({"ssh": ssh}),
    };
    context.report("Ports", &ports, &text)
}

/// Runs `kubby ip`. Ports of the host's loopback lead to the node, so its address is 127.0.0.1.
pub(super) fn ip(context: &Context) -> Result<ExitCode> {
    Cluster::open(&context.store, &context.global.profile)?;
    context.report("Ip", &json!({"ip": "127.0.0.1"}), "127.0.0.1\n")
}
