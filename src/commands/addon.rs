//! `kubby addon`.

use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use crate::cli::AddonCommand;
use crate::cluster::operations::addons::{self, Row};
use crate::error::Result;

/// Runs the command.
pub(super) fn run(context: &Context, command: &AddonCommand) -> Result<ExitCode> {
    let profile = &context.global.profile;
    match command {
        AddonCommand::List => {
            let rows = addons::list(&context.store, profile)?;
            let data = json!({"profile": profile, "addons": rows});
            context.report("AddonList", &data, &table(&rows))
        }
        AddonCommand::Enable { addons, force } => {
            let names = addons::enable(&context.env(), profile, addons, *force)?;
            let data = json!({"profile": profile, "enabled": names});
            context.report("AddonEnable", &data, "")
        }
        AddonCommand::Disable { addons } => {
            let names = addons::disable(&context.env(), profile, addons)?;
            let data = json!({"profile": profile, "disabled": names});
            context.report("AddonDisable", &data, "")
        }
        AddonCommand::Show { addon } => {
            let addon = addons::show(&context.store, profile, addon)?;
            let objects: Vec<_> = addon.objects.iter().map(|o| o.value()).collect();
            let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
            context.report("Addon", &json!({"addon": addon}), &format!("{list:#}\n"))
        }
    }
}

fn table(rows: &[Row]) -> String {
    let row = |row: &Row| {
        let folder = row.folder.as_ref();
        let origin = folder.map_or_else(String::new, |folder| format!(" ({})", folder.display()));
        [
            row.name.clone(),
            if row.enabled { "yes" } else { "no" }.to_owned(),
            format!("{}{origin}", row.description),
        ]
    };
    super::table(["ADD-ON", "ENABLED", "DESCRIPTION"], rows.iter().map(row))
}
