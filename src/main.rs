//! The `kubby` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args = kubby::cli::save_output(std::env::args_os());
    kubby::commands::run(kubby::cli::Cli::read(args))
}
