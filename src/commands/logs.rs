//! `kubby logs`.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use crate::cli::LogsArgs;
use crate::cluster::Cluster;
use crate::cluster::operations::{console, support_bundle};
use crate::error::Result;
use crate::provision::processes;
use crate::{remote, ui};

/// Runs the command.
pub(super) fn run(context: &Context, args: &LogsArgs) -> Result<ExitCode> {
    if let Some(file) = &args.bundle {
        return bundle(context, file);
    }
    let cluster = Cluster::open(&context.store, &context.global.profile)?;
    let node = cluster.find_node(args.node.as_deref())?;
    if args.console {
        let text = console::console(&context.env(), &cluster, node, args.lines as usize)?;
        ui::print(&format!("{}\n", text.trim_end()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut command = format!("journalctl --no-pager -n {}", args.lines);
    if args.follow {
        command.push_str(" -f");
    }
    for process in processes(node.role) {
        if args.components.is_empty() || args.components.iter().any(|c| c == process) {
            command.push_str(&format!(" -u {process}"));
        }
    }
    let code = remote::exec_streaming(&cluster.target_of(node)?, &command, false).map_err(|e| {
        e.with_hint(format!(
            "kubby logs{} --console shows the serial console, which needs no SSH",
            cluster.profile.name.flag()
        ))
    })?;
    Ok(super::ssh::exit_code(code))
}

/// Writes the bundle for `--bundle`. Parts that cannot be collected are warnings, because users need a
/// bundle most when the node is dead.
fn bundle(context: &Context, file: &Path) -> Result<ExitCode> {
    support_bundle::check_destination(file)?;
    let progress = context.progress.as_ref();
    let bundle = support_bundle::collect(&context.env(), &context.global.profile, None)?;
    for problem in &bundle.problems {
        progress.warn(problem);
    }
    let bytes = bundle.write(file)?;
    // Otherwise standard output contains the bundle.
    if file != Path::new("-") {
        let names: Vec<&String> = bundle.files.iter().map(|(name, _)| name).collect();
        let data = json!({
            "file": file,
            "bytes": bytes,
            "files": names,
            "problems": bundle.problems,
        });
        return context.report("Bundle", &data, &format!("{}\n", file.display()));
    }
    Ok(ExitCode::SUCCESS)
}
