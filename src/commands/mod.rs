//! One file a verb: arguments in, domain calls, output out.

mod addon;
mod certs;
mod completion;
mod dashboard;
mod delete;
mod doctor;
mod fork;
mod image;
mod kubectl;
mod list;
mod logs;
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

use crate::cli::{Cli, Command, NodeImageCommand, OutputFormat};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::{interrupt, ui};

/// Runs a parsed command line and says with which code the process ends.
pub fn run(cli: Cli) -> ExitCode {
    let format = cli.global.output;
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            show_error(&error, format);
            ExitCode::from(error.kind().exit_code())
        }
    }
}

/// Shows an error to people, and to programs that asked for it.
fn show_error(error: &Error, format: OutputFormat) {
    if format == OutputFormat::Json {
        // stdout may be the thing that failed; the exit code still tells.
        let _ = ui::print(&crate::output::error_json(error));
    }
    ui::show_error(error);
}

fn dispatch(cli: Cli) -> Result<ExitCode> {
    interrupt::install()?;
    match cli.command {
        Command::Version => version::run(&cli.global),
        Command::Completion(args) => completion::run(&args),
        Command::Man(args) => completion::man(&args),
        command => {
            let context = Context::new(cli.global)?;
            match command {
                Command::Start(args) => start::run(&context, &args),
                Command::Run(args) => run::run(&context, &args),
                Command::Status(args) => status::run(&context, &args),
                Command::Ssh(args) => ssh::run(&context, &args),
                Command::Stop(args) => stop::run(&context, &args),
                Command::Pause => pause::pause(&context),
                Command::Resume => pause::resume(&context),
                Command::Suspend => pause::suspend(&context),
                Command::Snapshot(command) => snapshot::run(&context, &command),
                Command::Fork(args) => fork::run(&context, &args),
                Command::Template(command) => template::run(&context, &command),
                Command::Delete(args) => delete::run(&context, &args),
                Command::List => list::run(&context),
                Command::Doctor(args) => doctor::run(&context, &args),
                Command::Logs(args) => logs::run(&context, &args),
                Command::Kubectl(args) => kubectl::run(&context, &args),
                Command::Service(args) => service::run(&context, &args),
                Command::Dashboard(args) => dashboard::run(&context, &args),
                Command::Ip => port::ip(&context),
                Command::Port(args) => port::run(&context, &args),
                Command::Addon(command) => addon::run(&context, &command),
                Command::Certs(command) => certs::run(&context, &command),
                Command::Image(command) => image::run(&context, command),
                Command::NodeImage(NodeImageCommand::Build(args)) => {
                    node_image::build(&context, &args)
                }
                Command::Version | Command::Completion(_) | Command::Man(_) => {
                    Ok(ExitCode::SUCCESS)
                }
            }
        }
    }
}
