//! `kubby completion` and `kubby man`, generated from the definition of the command line.

use std::path::Path;
use std::process::ExitCode;

use crate::cli::Cli;
use crate::error::{Kind, Result, ResultExt};
use crate::{fsutil, ui};

/// Prints a completion script.
pub(super) fn run(shell: clap_complete::Shell) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::definition(), "kubby", &mut script);
    ui::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a manual page for each command.
pub(super) fn man(dir: &Path) -> Result<ExitCode> {
    fsutil::create_private_dir(dir)?;
    clap_mangen::generate_to(Cli::definition(), dir).context(Kind::Internal, || {
        format!("cannot write to {}", dir.display())
    })?;
    Ok(ExitCode::SUCCESS)
}
