//! `kubby delete`.

use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use crate::cluster::operations::{delete, throwaway};
use crate::cluster::saved::templates;
use crate::error::{Kind, Result};

/// Runs the command.
pub(super) fn run(context: &Context, all: bool, purge: bool) -> Result<ExitCode> {
    // Throwaway clusters of killed processes are deleted too. If that fails, this command continues.
    let swept = match throwaway::sweep(&context.env()) {
        Err(e) if e.kind() != Kind::Interrupted => {
            context.progress.warn(e.message());
            Vec::new()
        }
        swept => swept?,
    };
    let names = if all {
        context.store.profile_names()?
    } else {
        vec![context.global.profile.clone()]
    };
    let mut deleted = Vec::new();
    for name in names {
        if swept.contains(&name) || delete::delete(&context.env(), &name)? {
            deleted.push(name);
        }
    }
    if purge {
        templates::prune(&context.env(), true)?;
        delete::purge_cache(&context.env())?;
    }
    let data = json!({"deleted": deleted, "swept": swept, "purged": purge});
    context.report("Delete", &data, "")
}
