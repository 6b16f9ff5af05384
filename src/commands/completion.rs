//! `kubby completion` and `kubby man`, generated from the definition of the command line.

use std::process::ExitCode;

use crate::cli::{Cli, CompletionArgs, ManArgs};
use crate::error::{Kind, Result, ResultExt};
use crate::{fsutil, ui};

/// Prints a completion script.
pub(super) fn run(args: &CompletionArgs) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::definition(), "kubby", &mut script);
    ui::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a manual page for each command.
pub(super) fn man(args: &ManArgs) -> Result<ExitCode> {
    fsutil::create_private_dir(&args.dir)?;
    clap_mangen::generate_to(Cli::definition(), &args.dir).context(Kind::Internal, || {
        format!("cannot write to {}", args.dir.display())
    })?;
    Ok(ExitCode::SUCCESS)
}
