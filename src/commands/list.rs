//! `kubby list`.

use std::process::ExitCode;

use comfy_table::{Table, TableStyle};
use serde_json::json;

use crate::cluster;
use crate::cluster::Status;
use crate::context::Context;
use crate::error::Result;

/// Runs the command. A damaged cluster is a row, not an error.
pub fn run(context: &Context) -> Result<ExitCode> {
    let mut all = Vec::new();
    for name in context.store.profile_names()? {
        all.push(cluster::status(&context.store, &name, false)?);
    }
    let rows: Vec<_> = all
        .iter()
        .map(|status| {
            json!({
                "profile": status.profile,
                "host": status.host,
                "kubernetesVersion": status.kubernetes_version,
                "server": status.server,
                "context": status.context,
                "currentContext": status.current_context,
                "reason": status.reason,
            })
        })
        .collect();
    context.report("List", &json!({"profiles": rows}), &table(&all))?;
    Ok(ExitCode::SUCCESS)
}

fn table(all: &[Status]) -> String {
    if all.is_empty() {
        return "There are no clusters; `kubby start` makes one.\n".to_owned();
    }
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    table.set_header(["PROFILE", "HOST", "KUBERNETES", "SERVER", "CONTEXT"]);
    for status in all {
        table.add_row([
            status.profile.to_string(),
            format!("{:?}", status.host),
            status
                .kubernetes_version
                .clone()
                .unwrap_or_else(|| "-".into()),
            status.server.clone().unwrap_or_else(|| "-".into()),
            format!(
                "{}{}",
                status.context,
                if status.current_context { " *" } else { "" }
            ),
        ]);
    }
    crate::ui::table(&table)
}
