//! `kubby service`.

use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{Table, TableStyle};
use serde_json::{Value, json};

use crate::cli::{OutputFormat, ServiceArgs, ServiceCommand, ServiceListArgs, ServiceRemoveArgs};
use crate::cluster;
use crate::cluster::Reachable;
use crate::cluster::ServiceRequest;
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::service::ServicePort;
use crate::{browser, ui};

/// Runs the command.
pub fn run(context: &Context, args: &ServiceArgs) -> Result<ExitCode> {
    match &args.command {
        Some(ServiceCommand::List(list_args)) => list(context, list_args)?,
        Some(ServiceCommand::Remove(remove_args)) => remove(context, remove_args)?,
        None => reach(context, args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn reach(context: &Context, args: &ServiceArgs) -> Result<()> {
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
    let reached = cluster::reach(
        &context.store,
        &context.global.profile,
        &request,
        context.progress.as_ref(),
    )?;
    let urls: Vec<String> = reached
        .ports
        .iter()
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
    Ok(())
}

/// Looked for before anything is changed.
fn check_browser() -> Result<()> {
    if browser::is_there() {
        return Ok(());
    }
    Err(Error::new(
        Kind::Usage,
        format!("--open: there is no {} on this host", browser::OPENER),
    )
    .with_hint("install the package xdg-utils, or use --url and open the address yourself"))
}

fn list(context: &Context, args: &ServiceListArgs) -> Result<()> {
    let all = cluster::services(
        &context.store,
        &context.global.profile,
        args.namespace.as_deref(),
    )?;
    let services: Vec<Value> = all.iter().map(|r| data(r, false)).collect();
    let text = if all.is_empty() {
        let place = args.namespace.as_deref().unwrap_or("any namespace");
        format!("There are no Services in {place}.\n")
    } else {
        table(&all, false)
    };
    context.report("Services", &json!({"services": services}), &text)
}

fn remove(context: &Context, args: &ServiceRemoveArgs) -> Result<()> {
    let closed = cluster::unreach(
        &context.store,
        &context.global.profile,
        &args.namespace,
        &args.name,
        args.port.as_deref(),
        context.progress.as_ref(),
    )?;
    let text: String = closed
        .iter()
        .map(|port| format!("127.0.0.1:{port} is closed\n"))
        .collect();
    let data = json!({"namespace": args.namespace, "name": args.name, "closedPorts": closed});
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
        "type": service.kind.name(),
        "ports": reachable.ports.iter().map(port).collect::<Vec<_>>(),
    })
}

fn table(all: &[Reachable], https: bool) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    table.set_header(["NAMESPACE", "NAME", "TYPE", "PORT", "NODE PORT", "URL"]);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    for Reachable { service, ports } in all {
        let head = [
            service.namespace.clone(),
            service.name.clone(),
            service.kind.name().to_owned(),
        ];
        let none = [or_dash(None), or_dash(None), or_dash(None)];
        let rows = ports.iter().map(|(port, host)| {
            [
                port.label(),
                or_dash(port.node_port.map(|p| p.to_string())),
                or_dash(host.map(|h| port.url(h, https))),
            ]
        });
        let rows: Vec<_> = if ports.is_empty() {
            vec![none]
        } else {
            rows.collect()
        };
        for row in rows {
            table.add_row(head.iter().cloned().chain(row));
        }
    }
    table
        .trim_fmt()
        .lines()
        .map(|line| format!("{}\n", line.trim()))
        .collect()
}
