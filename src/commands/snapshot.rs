//! `kubby snapshot`.

use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use crate::cli::SnapshotCommand;
use crate::cluster;
use crate::cluster::saved::snapshots::Snapshot;
use crate::error::Result;
use crate::units::{human_bytes, human_time};

/// Runs the command.
pub(super) fn run(context: &Context, command: &SnapshotCommand) -> Result<ExitCode> {
    let profile = &context.global.profile;
    match command {
        SnapshotCommand::Save(args) => {
            let saved = cluster::saved::snapshots::save(&context.env(), profile, &args.name)?;
            let data = json!({
                "profile": profile,
                "snapshot": args.name,
                "memory": saved.memory.is_some(),
                "bytes": saved.memory.map_or(0, |memory| memory.allocated),
            });
            context.report("SnapshotSave", &data, "")?;
        }
        SnapshotCommand::List => {
            let all = cluster::saved::snapshots::list(&context.env(), profile)?;
            let data = json!({"profile": profile, "snapshots": all});
            context.report("SnapshotList", &data, &table(&all))?;
        }
        SnapshotCommand::Restore(args) => {
            cluster::saved::snapshots::restore(&context.env(), profile, &args.name)?;
            if !args.no_start {
                return super::start::start_again(context);
            }
            let data = json!({"profile": profile, "snapshot": args.name});
            context.report("SnapshotRestore", &data, "")?;
        }
        SnapshotCommand::Delete(args) => {
            let deleted = cluster::saved::snapshots::delete(&context.env(), profile, &args.name)?;
            let data = json!({"profile": profile, "snapshot": args.name, "deleted": deleted});
            context.report("SnapshotDelete", &data, "")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn table(all: &[Snapshot]) -> String {
    if all.is_empty() {
        return "There are no snapshots; `kubby snapshot save NAME` creates one.\n".to_owned();
    }
    let row = |snapshot: &Snapshot| {
        let memory = snapshot.memory.then(|| human_bytes(snapshot.bytes));
        [
            snapshot.name.to_string(),
            snapshot.created.map_or("-".to_owned(), human_time),
            memory.unwrap_or_else(|| "-".to_owned()),
            snapshot.problem.clone().unwrap_or_else(|| "good".into()),
        ]
    };
    super::table(
        ["SNAPSHOT", "SAVED", "MEMORY", "STATE"],
        all.iter().map(row),
    )
}
