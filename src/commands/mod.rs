//! The commands, one file each: they turn arguments into calls of the library and print results.

mod addon;
mod certs;
mod completion;
mod context;
mod dashboard;
mod delete;
mod doctor;
mod fork;
mod host_port;
mod image;
mod kubectl;
mod list;
mod logs;
mod node;
mod node_image;
mod pause;
mod port;
mod run;
mod service;
mod snapshot;
mod ssh;
mod start;
mod status;
mod stop;
mod template;
mod version;

use std::process::ExitCode;

use context::Context;

use crate::cli::{Cli, Command, NodeImageCommand, OutputFormat};
use crate::error::{Error, Result};
use crate::{interrupt, ui};

/// Runs a parsed command line and returns the exit code of the process.
pub(crate) fn run(cli: Cli) -> ExitCode {
    let format = cli.global.output;
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            show_error(&error, format);
            ExitCode::from(error.kind().exit_code())
        }
    }
}

/// Prints an error on stderr, and with `-o json` as JSON on stdout too.
fn show_error(error: &Error, format: OutputFormat) {
    if format == OutputFormat::Json {
        // If stdout itself is broken, the exit code and stderr still show the error.
        let _ = ui::print(&crate::output::error_json(error));
    }
    ui::show_error(error);
}

/// Renders a table of results.
fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::TableStyle::new());
    table.set_header(header).add_rows(rows);
    ui::table(&table)
}

fn dispatch(cli: Cli) -> Result<ExitCode> {
    interrupt::install()?;
    let global = cli.global;
    let context = || Context::new(global.clone());
    match cli.command {
        Command::Start(args) => start::run(&context()?, &args),
        Command::Status { exit_code } => status::run(&context()?, exit_code),
        Command::List => list::run(&context()?),
        Command::Stop { force, timeout } => stop::run(&context()?, force, timeout),
        Command::Pause => pause::pause(&context()?),
        Command::Suspend => pause::suspend(&context()?),
        Command::Resume => pause::resume(&context()?),
        Command::Delete { all, purge } => delete::run(&context()?, all, purge),
        Command::Run(args) => run::run(&context()?, &args),
        Command::Snapshot(command) => snapshot::run(&context()?, &command),
        Command::Fork(args) => fork::run(&context()?, &args),
        Command::Template(command) => template::run(&context()?, &command),
        Command::Kubectl { args } => kubectl::run(&context()?, &args),
        Command::Service(args) => service::run(&context()?, &args),
        Command::HostPort(command) => host_port::run(&context()?, &command),
        Command::Dashboard(args) => dashboard::run(&context()?, &args),
        Command::Addon(command) => addon::run(&context()?, &command),
        Command::Certs(command) => certs::run(&context()?, &command),
        Command::Ssh { node, tty, command } => {
            ssh::run(&context()?, node.as_deref(), &command, tty)
        }
        Command::Node(command) => node::run(&context()?, command),
        Command::Logs(args) => logs::run(&context()?, &args),
        Command::Ip => port::ip(&context()?),
        Command::Port { node, name } => port::run(&context()?, node.as_deref(), name),
        Command::Image(command) => image::run(&context()?, command),
        Command::NodeImage(NodeImageCommand::Build { force, export }) => {
            node_image::build(&context()?, force, export.as_deref())
        }
        Command::Doctor { fix } => doctor::run(&context()?, fix),
        Command::Version => version::run(&global),
        Command::Completion { shell } => completion::run(shell),
        Command::Man { dir } => completion::man(&dir),
    }
}
