//! `kubby node`.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::context::Context;
use crate::cli::NodeCommand;
use crate::cluster::Cluster;
use crate::cluster::counts::NodeCounts;
use crate::cluster::operations::{links, nodes, status};
use crate::cluster::spec::ClusterArgs;
use crate::cluster::start;
use crate::error::Result;
use crate::units::{Milliseconds, Percent};

/// Runs the command.
pub(super) fn run(context: &Context, command: NodeCommand) -> Result<ExitCode> {
    let profile = &context.global.profile;
    let env = &context.env();
    match command {
        NodeCommand::List => list(context),
        NodeCommand::Add {
            workers,
            control_planes,
            cpus,
            memory,
        } => {
            let sizes = ClusterArgs {
                worker_cpus: cpus,
                worker_memory: memory,
                ..ClusterArgs::default()
            };
            let usual = u8::from(control_planes.is_none());
            let more = NodeCounts {
                control_planes: control_planes.unwrap_or(0).into(),
                workers: workers.unwrap_or(usual).into(),
            };
            add(context, more, sizes)
        }
        NodeCommand::Delete {
            node,
            force,
            delete_data,
            timeout,
        } => {
            let asked = nodes::Deletion {
                force,
                delete_data,
                limit: Duration::from_secs(timeout),
            };
            nodes::delete(env, profile, &node, &asked)?;
            context.report(
                "NodeDelete",
                &json!({"profile": profile, "deleted": node}),
                "",
            )
        }
        NodeCommand::Start { node } => {
            Cluster::open(&context.store, profile)?.find_node(Some(&node))?;
            start::start(env, profile, &nodes::again())?;
            context.report("NodeStart", &json!({"profile": profile, "node": node}), "")
        }
        NodeCommand::Stop { node, force } => {
            let stopped = nodes::stop(env, profile, &node, force)?;
            let data = json!({"profile": profile, "node": node, "stopped": stopped});
            context.report("NodeStop", &data, "")
        }
        NodeCommand::Disconnect { node, from } => disconnect(context, &node, &from),
        NodeCommand::Connect { node, loss, delay } => connect(context, &node, loss, delay),
    }
}

fn add(context: &Context, more: NodeCounts, sizes: ClusterArgs) -> Result<ExitCode> {
    let profile = &context.global.profile;
    let started = nodes::add(&context.env(), profile, more, sizes)?;
    let all = started.cluster.profile.nodes.iter().rev();
    let added = all.take(more.control_planes + more.workers);
    let added: Vec<&String> = added.map(|node| &node.name).collect();
    let text: String = added.iter().rev().map(|name| format!("{name}\n")).collect();
    let data = json!({"profile": profile, "added": added});
    context.report("NodeAdd", &data, &text)
}

fn disconnect(context: &Context, node: &str, from: &[String]) -> Result<ExitCode> {
    let profile = &context.global.profile;
    links::disconnect(&context.env(), profile, node, from)?;
    let data = json!({"profile": profile, "node": node, "from": from});
    context.report("NodeDisconnect", &data, "")
}

fn connect(
    context: &Context,
    node: &str,
    Percent(loss): Percent,
    Milliseconds(delay): Milliseconds,
) -> Result<ExitCode> {
    let profile = &context.global.profile;
    links::connect(&context.env(), profile, node, loss, delay)?;
    let data = json!({
        "profile": profile, "node": node, "lossPercent": loss, "delayMillis": delay,
    });
    context.report("NodeConnect", &data, "")
}

fn list(context: &Context) -> Result<ExitCode> {
    let cluster = Cluster::open(&context.store, &context.global.profile)?;
    let status = status::status(&context.env(), cluster.name(), true)?;
    let rows = status
        .nodes
        .iter()
        .zip(&cluster.profile.nodes)
        .map(|(state, node)| {
            let kubelet = format!("{:?}", state.kubelet);
            let address = node.addresses().ip.to_string();
            (state, kubelet, address, node.ports.ssh)
        });
    let rows: Vec<_> = rows.collect();
    let nodes: Vec<_> = rows
        .iter()
        .map(|(state, _, address, ssh)| json!({"node": state, "address": address, "ssh": ssh}))
        .collect();
    let text = super::table(
        ["NODE", "ROLE", "HOST", "KUBELET", "ADDRESS", "SSH"],
        rows.iter().map(|(state, kubelet, address, ssh)| {
            [
                state.name.clone(),
                state.role.name().to_owned(),
                format!("{:?}", state.host),
                kubelet.clone(),
                address.clone(),
                ssh.to_string(),
            ]
        }),
    );
    context.report(
        "NodeList",
        &json!({"profile": cluster.name(), "nodes": nodes}),
        &text,
    )
}
