//! `kubby snapshot`.

use std::process::ExitCode;

use comfy_table::{Table, TableStyle};
use serde_json::json;

use crate::cli::SnapshotCommand;
use crate::cluster;
use crate::cluster::Snapshot;
use crate::context::Context;
use crate::error::Result;
use crate::units::{human_bytes, human_time};

/// Runs the command.
pub fn run(context: &Context, command: &SnapshotCommand) -> Result<ExitCode> {
    let (store, profile) = (&context.store, &context.global.profile);
    let progress = context.progress.as_ref();
    match command {
        SnapshotCommand::Save(args) => {
            let saved = cluster::save_snapshot(store, profile, &args.name, progress)?;
            let data = json!({
                "profile": profile,
                "snapshot": args.name,
                "memory": saved.memory.is_some(),
                "bytes": saved.memory.map_or(0, |memory| memory.allocated),
            });
            context.report("SnapshotSave", &data, "")?;
        }
        SnapshotCommand::List => {
            let all = cluster::snapshots(store, profile)?;
            let data = json!({"profile": profile, "snapshots": all});
            context.report("SnapshotList", &data, &table(&all))?;
        }
        SnapshotCommand::Restore(args) => {
            cluster::restore_snapshot(store, profile, &args.name, progress)?;
            if !args.no_start {
                return super::start::go_on(context);
            }
            let data = json!({"profile": profile, "snapshot": args.name});
            context.report("SnapshotRestore", &data, "")?;
        }
        SnapshotCommand::Delete(args) => {
            let deleted = cluster::delete_snapshot(store, profile, &args.name, progress)?;
            let data = json!({"profile": profile, "snapshot": args.name, "deleted": deleted});
            context.report("SnapshotDelete", &data, "")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn table(all: &[Snapshot]) -> String {
    if all.is_empty() {
        return "There are no snapshots; `kubby snapshot save NAME` makes one.\n".to_owned();
    }
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    table.set_header(["SNAPSHOT", "SAVED", "MEMORY", "STATE"]);
    for snapshot in all {
        let memory = if snapshot.memory {
            human_bytes(snapshot.bytes)
        } else {
            "-".to_owned()
        };
        table.add_row([
            snapshot.name.to_string(),
            snapshot.created.map_or("-".to_owned(), human_time),
            memory,
            snapshot.problem.clone().unwrap_or_else(|| "good".into()),
        ]);
    }
    crate::ui::table(&table)
}
