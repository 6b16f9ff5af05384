//! `kubby certs`.

use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use crate::cli::CertsCommand;
use crate::cluster::operations::certs::{self, Certificate};
use crate::error::Result;
use crate::pki::CertName;
use crate::units::human_time;

/// Runs the command.
pub(super) fn run(context: &Context, command: &CertsCommand) -> Result<ExitCode> {
    let (store, profile) = (&context.store, &context.global.profile);
    match command {
        CertsCommand::List => {
            let all = certs::list(store, profile)?;
            let data = json!({"profile": profile, "certificates": all});
            context.report("CertificateList", &data, &table(&all))
        }
        CertsCommand::Renew { names, .. } => {
            let names = names.iter().filter_map(|name| CertName::of_stem(name));
            let renewal = certs::renew(&context.env(), profile, &names.collect::<Vec<_>>())?;
            let data = json!({
                "profile": profile,
                "renewed": renewal.renewed,
                "inUse": renewal.in_use,
            });
            context.report("CertificateRenewal", &data, "")
        }
    }
}

fn table(all: &[Certificate]) -> String {
    let none = || "-".to_owned();
    let row = |row: &Certificate| {
        [
            row.name.clone(),
            row.subject.clone().unwrap_or_else(none),
            row.authority.unwrap_or("itself").to_owned(),
            row.ends_at.map_or_else(none, human_time),
            row.days_left.map_or_else(none, |days| days.to_string()),
            row.renewal
                .map_or_else(|| "keeps it".to_owned(), |why| format!("renews it: {why}")),
        ]
    };
    let header = [
        "CERTIFICATE",
        "SUBJECT",
        "AUTHORITY",
        "ENDS",
        "DAYS LEFT",
        "NEXT START",
    ];
    super::table(header, all.iter().map(row))
}
