//! `kubby status`.

use std::process::ExitCode;

use super::context::Context;
use crate::cli::StatusArgs;
use crate::cluster;
use crate::cluster::operations::status::HostState;
use crate::cluster::operations::status::Status;
use crate::error::{Kind, Result};

/// Runs the command.
pub(super) fn run(context: &Context, args: &StatusArgs) -> Result<ExitCode> {
    let status =
        cluster::operations::status::status(&context.env(), &context.global.profile, true)?;
    context.report("Status", &status, &text(&status))?;
    Ok(if args.exit_code {
        code(&status)
    } else {
        ExitCode::SUCCESS
    })
}

fn code(status: &Status) -> ExitCode {
    ExitCode::from(match status.host {
        _ if status.is_healthy() => 0,
        HostState::Running => Kind::Unhealthy.exit_code(),
        _ => Kind::State.exit_code(),
    })
}

fn text(status: &Status) -> String {
    let mut text = format!(
        "{}\nhost: {:?}\nkubelet: {:?}\napiserver: {:?}\nkubeconfig: {:?}\n",
        status.context, status.host, status.kubelet, status.apiserver, status.kubeconfig
    );
    if !status.certificates_due.is_empty() {
        text.push_str(&format!(
            "certificates: to be renewed by kubby start{}: {}\n",
            status.profile.flag(),
            status.certificates_due.join(", ")
        ));
    }
    if let Some(reason) = &status.reason {
        text.push_str(&format!("reason: {reason}\n"));
    }
    text
}
