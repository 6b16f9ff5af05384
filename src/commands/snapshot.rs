//! `kubby snapshot`.

use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use crate::cli::SnapshotCommand;
use crate::cluster::saved::snapshots::{self, Snapshot};
use crate::error::Result;
use crate::units::{human_bytes, human_time};

/// Runs the command.
pub(super) fn run(context: &Context, command: &SnapshotCommand) -> Result<ExitCode> {
    let profile = &context.global.profile;
    match command {
        SnapshotCommand::Save { name } => {
            let bytes = snapshots::save(&context.env(), profile, name)?.memory();
            let data = json!({
                "profile": profile,
                "snapshot": name,
                "memory": bytes.is_some(),
                "bytes": bytes.unwrap_or_default(),
            });
            context.report("SnapshotSave", &data, "")
        }
        SnapshotCommand::List => {
            let all = snapshots::list(&context.env(), profile)?;
            let data = json!({"profile": profile, "snapshots": all});
            context.report("SnapshotList", &data, &table(&all))
        }
        SnapshotCommand::Restore { name, no_start } => {
            snapshots::restore(&context.env(), profile, name)?;
            if !no_start {
                return super::start::start_again(context);
            }
            let data = json!({"profile": profile, "snapshot": name});
            context.report("SnapshotRestore", &data, "")
        }
        SnapshotCommand::Delete { name } => {
            let deleted = snapshots::delete(&context.env(), profile, name)?;
            let data = json!({"profile": profile, "snapshot": name, "deleted": deleted});
            context.report("SnapshotDelete", &data, "")
        }
    }
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
