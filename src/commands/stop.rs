//! `kubby stop`.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::context::Context;
use crate::cli::StopArgs;
use crate::cluster::{self, StopOptions};
use crate::error::Result;

/// Runs the command.
pub fn run(context: &Context, args: &StopArgs) -> Result<ExitCode> {
    let options = StopOptions {
        force: args.force,
        timeout: args.timeout.map(Duration::from_secs),
    };
    let profile = &context.global.profile;
    let stopped = cluster::stop(&context.store, profile, options, context.progress.as_ref())?;
    context.report("Stop", &json!({"profile": profile, "stopped": stopped}), "")?;
    Ok(ExitCode::SUCCESS)
}
