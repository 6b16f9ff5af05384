//! `kubby pause`, `kubby resume` and `kubby suspend`.

use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use crate::cluster;
use crate::error::Result;

/// Runs `kubby pause`.
pub(super) fn pause(context: &Context) -> Result<ExitCode> {
    let profile = &context.global.profile;
    let paused = cluster::operations::pause::pause(&context.env(), profile)?;
    context.report("Pause", &json!({"profile": profile, "paused": paused}), "")
}

/// Runs `kubby suspend`.
pub(super) fn suspend(context: &Context) -> Result<ExitCode> {
    let profile = &context.global.profile;
    let suspended = cluster::saved::suspend::suspend(&context.env(), profile)?;
    let data = json!({"profile": profile, "suspended": suspended});
    context.report("Suspend", &data, "")
}

/// Runs `kubby resume`: starts the cluster if it is paused or suspended.
pub(super) fn resume(context: &Context) -> Result<ExitCode> {
    cluster::operations::pause::check_resumable(&context.env(), &context.global.profile)?;
    super::start::start_again(context)
}
