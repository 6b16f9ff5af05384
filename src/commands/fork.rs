//! `kubby fork`.

use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use crate::cli::ForkArgs;
use crate::cluster::saved::fork::fork;
use crate::cluster::spec::StartOptions;
use crate::error::Result;

/// Runs the command.
pub(super) fn run(context: &Context, args: &ForkArgs) -> Result<ExitCode> {
    let source = &context.global.profile;
    let (env, from) = (context.env(), args.from.as_ref());
    fork(&env, source, &args.new, from, !args.no_start)?;
    if args.no_start {
        let data = json!({"profile": source, "fork": args.new});
        return context.report("Fork", &data, "");
    }
    let options = StartOptions {
        keep_context: args.keep_context,
        ..StartOptions::default()
    };
    super::start::start_profile(context, &args.new, &options, context.progress.as_ref())
}
