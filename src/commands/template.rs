//! `kubby template`.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use crate::cli::{TemplateCommand, TemplateExportArgs};
use crate::cluster;
use crate::cluster::saved::templates::Row as TemplateRow;
use crate::error::Result;
use crate::units::{Mebibytes, human_bytes, human_time};

/// Runs the command.
pub(super) fn run(context: &Context, command: &TemplateCommand) -> Result<ExitCode> {
    match command {
        TemplateCommand::List => {
            let all = cluster::saved::templates::list(&context.env())?;
            let bytes: u64 = all.iter().map(|row| row.bytes).sum();
            let data = json!({"templates": all, "bytes": bytes});
            context.report("TemplateList", &data, &table(&all, bytes))?;
        }
        TemplateCommand::Delete(args) => {
            let deleted = cluster::saved::templates::delete(&context.env(), &args.keys)?;
            context.report("TemplateDelete", &json!({"deleted": deleted}), "")?;
        }
        TemplateCommand::Prune(args) => {
            let deleted = cluster::saved::templates::prune(&context.env(), args.all)?;
            context.report("TemplatePrune", &json!({"deleted": deleted}), "")?;
        }
        TemplateCommand::Export(args) => return export(context, args),
        TemplateCommand::Import(args) => {
            let (connect, sha256) = (args.connect.as_deref(), args.sha256.as_deref());
            let imported =
                cluster::saved::template_file::import(&context.env(), &args.file, connect, sha256)?;
            context.report("TemplateImport", &json!(imported), "")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn export(context: &Context, args: &TemplateExportArgs) -> Result<ExitCode> {
    let exported = cluster::saved::template_file::export(
        &context.env(),
        args.key.as_deref(),
        &args.file,
        !args.without_images,
    )?;
    // Otherwise standard output contains the template.
    if args.file != Path::new("-") {
        let line = format!("{}  {}\n", exported.sha256, args.file.display());
        context.report("TemplateExport", &json!(exported), &line)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(all: &[TemplateRow], bytes: u64) -> String {
    if all.is_empty() {
        return "There are no warm templates; the next `kubby start` saves one.\n".to_owned();
    }
    let row = |row: &TemplateRow| {
        let used_by: Vec<&str> = row.used_by.iter().map(|name| name.as_str()).collect();
        [
            row.key.clone(),
            row.kubernetes_version.clone(),
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
