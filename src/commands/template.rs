//! `kubby template`.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use crate::cli::TemplateCommand;
use crate::cluster::saved::template_file;
use crate::cluster::saved::templates::{self, Row};
use crate::error::Result;
use crate::role::Role;
use crate::units::{Mebibytes, human_bytes, human_time};

/// Runs the command.
pub(super) fn run(context: &Context, command: &TemplateCommand) -> Result<ExitCode> {
    match command {
        TemplateCommand::List => {
            let all = templates::list(&context.env())?;
            let bytes: u64 = all.iter().map(|row| row.bytes).sum();
            let data = json!({"templates": all, "bytes": bytes});
            context.report("TemplateList", &data, &table(&all, bytes))
        }
        TemplateCommand::Delete { keys } => {
            let deleted = templates::delete(&context.env(), keys)?;
            context.report("TemplateDelete", &json!({"deleted": deleted}), "")
        }
        TemplateCommand::Prune { all } => {
            let deleted = templates::prune(&context.env(), *all)?;
            context.report("TemplatePrune", &json!({"deleted": deleted}), "")
        }
        TemplateCommand::Export {
            key,
            file,
            without_images,
        } => {
            let (env, key) = (context.env(), key.as_deref());
            let exported = template_file::export(&env, key, file, !without_images)?;
            if file == Path::new("-") {
                // Standard output contains the template and nothing else.
                return Ok(ExitCode::SUCCESS);
            }
            let line = format!("{}  {}\n", exported.sha256, file.display());
            context.report("TemplateExport", &exported, &line)
        }
        TemplateCommand::Import {
            file,
            sha256,
            connect,
        } => {
            let (connect, sha256) = (connect.as_deref(), sha256.as_deref());
            let imported = template_file::import(&context.env(), file, connect, sha256)?;
            context.report("TemplateImport", &imported, "")
        }
    }
}

/// Returns how many nodes a template is of; a single worker can join any cluster.
fn nodes(roles: &[Role]) -> String {
    match roles {
        [Role::Worker] => "worker".to_owned(),
        roles => roles.len().to_string(),
    }
}

fn table(all: &[Row], bytes: u64) -> String {
    if all.is_empty() {
        return "There are no warm templates; the next `kubby start` saves one.\n".to_owned();
    }
    let row = |row: &Row| {
        let used_by: Vec<&str> = row.used_by.iter().map(|name| name.as_str()).collect();
        [
            row.key.clone(),
            row.kubernetes_version.clone(),
            nodes(&row.nodes),
            row.cpus.to_string(),
            Mebibytes(row.memory_mib).to_string(),
            row.addons.join(","),
            row.created.map_or("-".to_owned(), human_time),
            human_bytes(row.bytes),
            if used_by.is_empty() {
                "-".to_owned()
            } else {
                used_by.join(",")
            },
            row.problem.clone().unwrap_or_else(|| "good".into()),
        ]
    };
    let header = [
        "TEMPLATE",
        "KUBERNETES",
        "NODES",
        "CPUS",
        "MEMORY",
        "ADD-ONS",
        "SAVED",
        "DISK",
        "USED BY",
        "STATE",
    ];
    let table = super::table(header, all.iter().map(row));
    format!("{table}{} in all\n", human_bytes(bytes))
}
