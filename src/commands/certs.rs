//! `kubby certs`.

use std::process::ExitCode;

use comfy_table::{Table, TableStyle};
use serde_json::json;

use crate::cli::CertsCommand;
use crate::cluster;
use crate::cluster::Certificate;
use crate::context::Context;
use crate::error::Result;
use crate::pki::CertName;
use crate::units::human_time;

/// Runs the command.
pub fn run(context: &Context, command: &CertsCommand) -> Result<ExitCode> {
    let (store, profile) = (&context.store, &context.global.profile);
    match command {
        CertsCommand::List => {
            let all = cluster::certificates(store, profile)?;
            let data = json!({"profile": profile, "certificates": all});
            context.report("CertificateList", &data, &table(&all))?;
        }
        CertsCommand::Renew(args) => {
            let names: Vec<CertName> = args
                .names
                .iter()
                .filter_map(|name| CertName::of_stem(name))
                .collect();
            let progress = context.progress.as_ref();
            let renewal = cluster::renew_certificates(store, profile, &names, progress)?;
            let data = json!({
                "profile": profile,
                "renewed": renewal.renewed,
                "inUse": renewal.in_use,
            });
            context.report("CertificateRenewal", &data, "")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn table(all: &[Certificate]) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    table.set_header([
        "CERTIFICATE",
        "SUBJECT",
        "AUTHORITY",
        "ENDS",
        "DAYS LEFT",
        "NEXT START",
    ]);
    let none = || "-".to_owned();
    for row in all {
        table.add_row([
            row.name.to_owned(),
            row.subject.clone().unwrap_or_else(none),
            row.authority.unwrap_or("itself").to_owned(),
            row.ends_at.map_or_else(none, human_time),
            row.days_left.map_or_else(none, |days| days.to_string()),
            row.renewal
                .map_or_else(|| "keeps it".to_owned(), |why| format!("renews it: {why}")),
        ]);
    }
    crate::ui::table(&table)
}
