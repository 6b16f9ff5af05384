//! The `kubby` program.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    kubby::commands::run(kubby::cli::Cli::parse())
}
