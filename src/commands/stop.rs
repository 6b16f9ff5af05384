//! `kubby stop`.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::context::Context;
use crate::cli::StopArgs;
use crate::cluster;
use crate::cluster::operations::stop::StopOptions;
use crate::error::Result;

/// Runs the command.
pub(super) fn run(context: &Context, args: &StopArgs) -> Result<ExitCode> {
    let options = StopOptions {
        force: args.force,
        timeout: args.timeout.map(Duration::from_secs),
    };
    let profile = &context.global.profile;
    let stopped = cluster::operations::stop::stop(&context.env(), profile, options)?;
    context.report("Stop", &json!({"profile": profile, "stopped": stopped}), "")?;
    Ok(ExitCode::SUCCESS)
}
