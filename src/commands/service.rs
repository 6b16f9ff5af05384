//! `kubby service`.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use super::context::Context;
use crate::cli::{OutputFormat, ServiceArgs, ServiceCommand};
use crate::cluster::operations::services::{self, Reachable, ServiceRequest};
use crate::error::{Error, Result};
use crate::service::ServicePort;
use crate::{browser, ui};

/// Runs the command.
pub(super) fn run(context: &Context, args: &ServiceArgs) -> Result<ExitCode> {
    match &args.command {
        Some(ServiceCommand::List { namespace }) => list(context, namespace.as_deref()),
        Some(ServiceCommand::Remove {
            name,
            namespace,
            port,
        }) => remove(context, namespace, name, port.as_deref()),
        None => reach(context, args),
    }
}

fn reach(context: &Context, args: &ServiceArgs) -> Result<ExitCode> {
    if args.open {
        check_browser()?;
    }
    let request = ServiceRequest {
        namespace: args.namespace.clone(),
        name: args.name.clone().unwrap_or_default(),
        port: args.port.clone(),
        host_port: args.host_port,
        wait: Duration::from_secs(args.wait),
    };
    let reached = services::reach(&context.env(), &context.global.profile, &request)?;
    let ports = reached.ports.iter();
    let urls: Vec<String> = ports
        .filter_map(|(port, host)| Some(port.url((*host)?, args.https)))
        .collect();
    if context.global.output == OutputFormat::Json {
        context.report("Service", &data(&reached, args.https), "")?;
    } else if args.url {
        ui::print(&urls.iter().map(|u| format!("{u}\n")).collect::<String>())?;
    } else {
        ui::print(&table(std::slice::from_ref(&reached), args.https))?;
    }
    if args.open {
        for url in urls.iter().filter(|u| u.starts_with("http")) {
            browser::open(url).map_err(|e| e.with_hint(format!("open {url} yourself")))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Checks for a browser before anything is changed.
fn check_browser() -> Result<()> {
    if browser::is_there() {
        return Ok(());
    }
    Err(Error::usage(format!(
        "--open: there is no {} on this host",
        browser::OPENER
    ))
    .with_hint("install the package xdg-utils, or use --url and open the address yourself"))
}

fn list(context: &Context, namespace: Option<&str>) -> Result<ExitCode> {
    let all = services::services(&context.env(), &context.global.profile, namespace)?;
    let services: Vec<Value> = all.iter().map(|r| data(r, false)).collect();
    let text = if all.is_empty() {
        let place = namespace.unwrap_or("any namespace");
        format!("There are no Services in {place}.\n")
    } else {
        table(&all, false)
    };
    context.report("Services", &json!({"services": services}), &text)
}

fn remove(context: &Context, namespace: &str, name: &str, port: Option<&str>) -> Result<ExitCode> {
    let profile = &context.global.profile;
    let closed = services::unreach(&context.env(), profile, namespace, name, port)?;
    let lines = closed
        .iter()
        .map(|port| format!("127.0.0.1:{port} is closed\n"));
    let text: String = lines.collect();
    let data = json!({"namespace": namespace, "name": name, "closedPorts": closed});
    context.report("ServiceRemoval", &data, &text)
}

fn data(reachable: &Reachable, https: bool) -> Value {
    let service = &reachable.service;
    let port = |(port, host): &(ServicePort, Option<u16>)| {
        json!({
            "name": port.name,
            "port": port.port,
            "protocol": port.protocol.map_or("SCTP".to_owned(), |p| p.to_string()),
            "nodePort": port.node_port,
            "hostPort": host,
            "url": host.map(|h| port.url(h, https)),
        })
    };
    json!({
        "namespace": service.namespace,
        "name": service.name,
        "type": service.kind,
        "ports": reachable.ports.iter().map(port).collect::<Vec<_>>(),
    })
}

fn table(all: &[Reachable], https: bool) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let mut rows = Vec::new();
    for Reachable { service, ports } in all {
        let row = |port, node_port, url| {
            [
                service.namespace.clone(),
                service.name.clone(),
                format!("{:?}", service.kind),
                or_dash(port),
                or_dash(node_port),
                or_dash(url),
            ]
        };
        rows.extend(ports.iter().map(|(port, host)| {
            let url = host.map(|host| port.url(host, https));
            let node_port = port.node_port.map(|port| port.to_string());
            row(Some(port.label()), node_port, url)
        }));
        if ports.is_empty() {
            rows.push(row(None, None, None));
        }
    }
    let header = ["NAMESPACE", "NAME", "TYPE", "PORT", "NODE PORT", "URL"];
    super::table(header, rows)
}
