//! `kubby ssh`.

use std::process::ExitCode;

use super::context::Context;
use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::remote;

/// Runs the command and returns the remote exit code.
pub(super) fn run(
    context: &Context,
    node: Option<&str>,
    command: &[String],
    tty: bool,
) -> Result<ExitCode> {
    let cluster = Cluster::open(&context.store, &context.global.profile)?;
    let target = cluster.target_of(cluster.find_node(node)?)?;
    let hint = |e: Error| {
        let flag = cluster.profile.name.flag();
        e.with_hint(format!(
            "kubby status{flag} shows what is running; kubby start{flag} repairs it"
        ))
    };
    let code = if command.is_empty() {
        remote::shell(&target).map_err(hint)?
    } else {
        remote::exec_streaming(&target, &remote::join(command), tty).map_err(hint)?
    };
    Ok(exit_code(code))
}

/// Returns a remote exit code as this process's own; 255 if it does not fit into a byte.
pub(super) fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(255))
}
