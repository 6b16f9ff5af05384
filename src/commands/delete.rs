//! `kubby delete`.

use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use crate::cli::DeleteArgs;
use crate::cluster;
use crate::error::{Kind, Result};

/// Runs the command.
pub(super) fn run(context: &Context, args: &DeleteArgs) -> Result<ExitCode> {
    // Throwaway clusters of killed processes are deleted too. If that fails, this command continues.
    let swept = match cluster::operations::throwaway::sweep(&context.env()) {
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
        if swept.contains(&name) || cluster::operations::delete::delete(&context.env(), &name)? {
            deleted.push(name);
        }
    }
    if args.purge {
        cluster::saved::templates::prune(&context.env(), true)?;
        cluster::operations::delete::purge_cache(&context.env())?;
    }
    context.report(
        "Delete",
        &json!({"deleted": deleted, "swept": swept, "purged": args.purge}),
        "",
    )?;
    Ok(ExitCode::SUCCESS)
}
