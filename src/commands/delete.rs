//! `kubby delete`.

use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use crate::cli::DeleteArgs;
use crate::cluster;
use crate::error::{Kind, Result};

/// Runs the command.
pub fn run(context: &Context, args: &DeleteArgs) -> Result<ExitCode> {
    // Throwaway clusters of killed processes are deleted too. If that fails, this command continues.
    let swept = match cluster::sweep(&context.store, context.progress.as_ref()) {
        Err(e) if e.kind() != Kind::Interrupted => {
            context.progress.warn(e.message());
            Vec::new()
        }
        swept => swept?,
    };
    let names = if args.all {
        context.store.profile_names()?
    } else {
        vec![context.global.profile.clone()]
    };
    let mut deleted = Vec::new();
    for name in names {
        if swept.contains(&name)
            || cluster::delete(&context.store, &name, context.progress.as_ref())?
        {
            deleted.push(name);
        }
    }
    if args.purge {
        cluster::prune_templates(&context.store, true, context.progress.as_ref())?;
        cluster::purge_cache(&context.store, context.progress.as_ref())?;
    }
    context.report(
        "Delete",
        &json!({"deleted": deleted, "swept": swept, "purged": args.purge}),
        "",
    )?;
    Ok(ExitCode::SUCCESS)
}
