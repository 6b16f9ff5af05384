//! The `kubby` program.

fn main() -> std::process::ExitCode {
    kubby::main()
}
