//! `kubby stop`.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::context::Context;
use crate::cluster::operations::stop::stop;
use crate::error::Result;

/// Runs the command.
pub(super) fn run(context: &Context, force: bool, timeout: Option<u64>) -> Result<ExitCode> {
    let timeout = timeout.map(Duration::from_secs);
    let profile = &context.global.profile;
    let stopped = stop(&context.env(), profile, force, timeout)?;
    context.report("Stop", &json!({"profile": profile, "stopped": stopped}), "")
}
