//! `kubby port` and `kubby ip`.

use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use crate::cli::PortName;
use crate::cluster::Cluster;
use crate::error::Result;

/// Runs `kubby port`.
pub(super) fn run(context: &Context, name: Option<PortName>) -> Result<ExitCode> {
    let cluster = Cluster::open(&context.store, &context.global.profile)?;
    let ports = cluster.profile.first().ports;
    let text = match name {
        Some(PortName::Api) => format!("{}\n", ports.api),
        Some(PortName::Ssh) => format!("{}\n", ports.ssh),
        None => format!("api 127.0.0.1:{}\nssh 127.0.0.1:{}\n", ports.api, ports.ssh),
    };
    context.report("Ports", &json!({"api": ports.api, "ssh": ports.ssh}), &text)
}

/// Runs `kubby ip`. Ports of the host's loopback lead to the node, so its address is 127.0.0.1.
pub(super) fn ip(context: &Context) -> Result<ExitCode> {
    Cluster::open(&context.store, &context.global.profile)?;
    context.report("Ip", &json!({"ip": "127.0.0.1"}), "127.0.0.1\n")
}
