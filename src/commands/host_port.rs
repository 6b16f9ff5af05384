//! `kubby host-port`.

use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use crate::cli::HostPortCommand;
use crate::cluster::Cluster;
use crate::cluster::operations::host_ports;
use crate::error::Result;
use crate::host_port::{Callers, HostPort, NamedPort};
use crate::network::HOST_NAME;

/// Runs the command.
pub(super) fn run(context: &Context, command: &HostPortCommand) -> Result<ExitCode> {
    match *command {
        HostPortCommand::Add { port, from } => add(context, port, from),
        HostPortCommand::List => list(context),
        HostPortCommand::Remove { port } => remove(context, port),
    }
}

fn add(context: &Context, port: NamedPort, callers: Callers) -> Result<ExitCode> {
    let NamedPort { port, protocol } = port;
    let port = HostPort {
        port,
        protocol,
        callers,
    };
    let applied = host_ports::add(&context.env(), &context.global.profile, port)?;
    let whose = match callers {
        Callers::Pods => "pods and nodes reach",
        Callers::Api => "kube-apiserver and other programs of the nodes reach",
    };
    let mut text = format!(
        "{whose} 127.0.0.1:{0} of this host at {HOST_NAME}:{0}\n",
        port.port
    );
    text.push_str(later(applied));
    let mut result = data(&port);
    result["applied"] = json!(applied);
    context.report("HostPort", &result, &text)
}

fn later(applied: bool) -> &'static str {
    match applied {
        true => "",
        false => "It takes effect when the cluster starts or resumes.\n",
    }
}

fn list(context: &Context) -> Result<ExitCode> {
    let cluster = Cluster::open(&context.store, &context.global.profile)?;
    let ports = &cluster.profile.opened;
    let items: Vec<_> = ports.iter().map(data).collect();
    let text = match ports.is_empty() {
        true => "No port of this host is open to the cluster.\n".to_owned(),
        false => {
            let rows = ports.iter().map(|port| {
                let from = match port.callers {
                    Callers::Pods => "pods",
                    Callers::Api => "api",
                };
                [
                    port.named().to_string(),
                    from.to_owned(),
                    format!("{HOST_NAME}:{}", port.port),
                ]
            });
            super::table(["PORT", "FROM", "ADDRESS IN THE CLUSTER"], rows)
        }
    };
    context.report("HostPortList", &json!(items), &text)
}

fn remove(context: &Context, port: NamedPort) -> Result<ExitCode> {
    let applied = host_ports::remove(&context.env(), &context.global.profile, port)?;
    let text = format!("port {port} of this host is closed\n{}", later(applied));
    let data = json!({"port": port.port, "protocol": port.protocol, "applied": applied});
    context.report("HostPortRemoval", &data, &text)
}

fn data(port: &HostPort) -> serde_json::Value {
    json!({
        "port": port.port,
        "protocol": port.protocol,
        "from": port.callers,
        "address": format!("{HOST_NAME}:{}", port.port),
    })
}
