//! `kubby version`.

use std::process::ExitCode;

use serde_json::json;

use crate::assets::version::{DEFAULT, NEWEST_MINOR, OLDEST_MINOR};
use crate::cli::{Global, OutputFormat};
use crate::error::Result;
use crate::hypervisor::library_version;
use crate::{output, ui};

/// Runs the command. It connects to no daemon, so that it works in every state of the host.
pub(super) fn run(global: &Global) -> Result<ExitCode> {
    let kubby = env!("CARGO_PKG_VERSION");
    let libvirt = library_version().to_string();
    let text = match global.output {
        OutputFormat::Json => output::json(
            "Version",
            &json!({
                "kubby": kubby,
                "defaultKubernetesVersion": DEFAULT.to_string(),
                "oldestKubernetesVersion": format!("v1.{OLDEST_MINOR}.0"),
                "newestKubernetesMinor": format!("v1.{NEWEST_MINOR}"),
                "libvirt": libvirt,
            }),
        ),
        OutputFormat::Text => format!(
            "kubby {kubby}\nKubernetes {DEFAULT} (v1.{OLDEST_MINOR} to v1.{NEWEST_MINOR} supported)\nlibvirt library {libvirt}\n"
        ),
    };
    ui::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
