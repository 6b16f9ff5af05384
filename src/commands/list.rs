//! `kubby list`.

use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use crate::cluster::operations::status::{Status, status};
use crate::error::Result;

/// Runs the command. A damaged cluster is a row, not an error.
pub(super) fn run(context: &Context) -> Result<ExitCode> {
    let names = context.store.profile_names()?.into_iter();
    let all: Vec<Status> = names
        .map(|name| status(&context.env(), &name, false))
        .collect::<Result<_>>()?;
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
    context.report("List", &json!({"profiles": rows}), &table(&all))
}

fn table(all: &[Status]) -> String {
    if all.is_empty() {
        return "There are no clusters; `kubby start` creates one.\n".to_owned();
    }
    let none = || "-".to_owned();
    let row = |status: &Status| {
        let current = if status.current_context { " *" } else { "" };
        [
            status.profile.to_string(),
            format!("{:?}", status.host),
            status.kubernetes_version.clone().unwrap_or_else(none),
            status.server.clone().unwrap_or_else(none),
            format!("{}{current}", status.context),
        ]
    };
    let header = ["PROFILE", "HOST", "KUBERNETES", "SERVER", "CONTEXT"];
    super::table(header, all.iter().map(row))
}
