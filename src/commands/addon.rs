//! `kubby addon`.

use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use crate::cli::AddonCommand;
use crate::cluster;
use crate::cluster::operations::addons::Row as AddonRow;
use crate::error::Result;

/// Runs the command.
pub(super) fn run(context: &Context, command: &AddonCommand) -> Result<ExitCode> {
    let profile = &context.global.profile;
    match command {
        AddonCommand::List => {
            let rows = cluster::operations::addons::list(&context.store, profile)?;
            context.report(
                "AddonList",
                &json!({"profile": profile, "addons": rows}),
                &table(&rows),
            )?;
        }
        AddonCommand::Enable(args) => {
            let names = cluster::operations::addons::enable(
                &context.env(),
                profile,
                &args.addons,
                args.force,
            )?;
            context.report(
                "AddonEnable",
                &json!({"profile": profile, "enabled": names}),
                "",
            )?;
        }
        AddonCommand::Disable(args) => {
            let names =
                cluster::operations::addons::disable(&context.env(), profile, &args.addons)?;
            context.report(
                "AddonDisable",
                &json!({"profile": profile, "disabled": names}),
                "",
            )?;
        }
        AddonCommand::Show(args) => {
            let addon = cluster::operations::addons::show(&context.store, profile, &args.addon)?;
            let objects: Vec<_> = addon.objects.iter().map(|o| o.value()).collect();
            let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
            context.report("Addon", &json!({"addon": addon}), &format!("{list:#}\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &[AddonRow]) -> String {
    let row = |row: &AddonRow| {
        let origin = row
            .folder
            .as_ref()
            .map_or_else(String::new, |folder| format!(" ({})", folder.display()));
        [
            row.name.clone(),
            if row.enabled { "yes" } else { "no" }.to_owned(),
            format!("{}{origin}", row.description),
        ]
    };
    super::table(["ADD-ON", "ENABLED", "DESCRIPTION"], rows.iter().map(row))
}
