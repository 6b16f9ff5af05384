//! `kubby fork`.

use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use crate::cli::ForkArgs;
use crate::cluster::saved::fork::{ForkRequest, fork};
use crate::cluster::spec::StartOptions;
use crate::error::Result;

/// Runs the command.
pub(super) fn run(context: &Context, args: &ForkArgs) -> Result<ExitCode> {
    let source = &context.global.profile;
    let request = ForkRequest {
        source,
        new: &args.new,
        from: args.from.as_ref(),
        to_start: !args.no_start,
    };
    fork(&context.env(), &request)?;
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
