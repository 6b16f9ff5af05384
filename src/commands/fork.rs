//! `kubby fork`.

use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use crate::cli::ForkArgs;
use crate::cluster::{self, StartOptions};
use crate::error::Result;

/// Runs the command.
pub fn run(context: &Context, args: &ForkArgs) -> Result<ExitCode> {
    let source = &context.global.profile;
    let progress = context.progress.as_ref();
    cluster::fork(
        &context.store,
        source,
        &args.new,
        args.from.as_ref(),
        !args.no_start,
        progress,
    )?;
    if args.no_start {
        let data = json!({"profile": source, "fork": args.new});
        context.report("Fork", &data, "")?;
        return Ok(ExitCode::SUCCESS);
    }
    let options = StartOptions {
        keep_context: args.keep_context,
        ..StartOptions::default()
    };
    super::start::start_profile(context, &args.new, &options)
}
