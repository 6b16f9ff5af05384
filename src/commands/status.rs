//! `kubby status`.

use std::process::ExitCode;

use super::context::Context;
use crate::cluster::operations::status::{self, HostState, Status};
use crate::error::{Kind, Result};

/// Runs the command.
pub(super) fn run(context: &Context, exit_code: bool) -> Result<ExitCode> {
    let status = status::status(&context.env(), &context.global.profile, true)?;
    let success = context.report("Status", &status, &text(&status))?;
    Ok(match status.host {
        _ if !exit_code || status.is_healthy() => success,
        HostState::Running => ExitCode::from(Kind::Unhealthy.exit_code()),
        _ => ExitCode::from(Kind::State.exit_code()),
    })
}

fn text(status: &Status) -> String {
    let mut text = format!(
        "{}\nhost: {:?}\nkubelet: {:?}\napiserver: {:?}\nkubeconfig: {:?}\n",
        status.context, status.host, status.kubelet, status.apiserver, status.kubeconfig
    );
    if status.nodes.len() > 1 {
        for node in &status.nodes {
            text.push_str(&format!("\n{}\ntype: {}\n", node.name, node.role.title()));
            text.push_str(&format!(
                "host: {:?}\nkubelet: {:?}\n",
                node.host, node.kubelet
            ));
            if let Some(state) = node.apiserver {
                text.push_str(&format!("apiserver: {state:?}\n"));
            }
        }
        text.push('\n');
    }
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
    for warning in &status.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}
