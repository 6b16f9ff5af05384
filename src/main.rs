//! The `kubby` program.

fn main() -> std::process::ExitCode {
    kubby::commands::run(kubby::cli::Cli::read())
}
