//! `kubby run`: a throwaway cluster around a command.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::cli::RunArgs;
use crate::cluster;
use crate::cluster::Access;
use crate::cluster::Throwaway;
use crate::context::Context;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::foreground::{self, Ending, Obstacle};
use crate::interrupt::{self, Alarm};
use crate::{fsutil, ui};

/// The exit code for a limit that passed, as timeout(1) has it.
const TIMED_OUT: u8 = 124;

/// The exit code for a defect of kubby's: 1 is what most commands fail with.
const DEFECT: u8 = 125;

/// What came of it.
enum Outcome {
    /// The command ran, or could not.
    Command(Ending),
    /// There was no cluster in time.
    StartTimedOut,
    /// A signal came before the command.
    StartInterrupted(i32),
    /// There was no cluster.
    StartFailed(Error),
}

/// Runs the command.
pub fn run(context: &Context, args: &RunArgs) -> Result<ExitCode> {
    match run_on_cluster(context, args) {
        Err(e) if e.kind() == Kind::Internal => {
            super::show_error(&e, context.global.output);
            Ok(ExitCode::from(DEFECT))
        }
        result => result,
    }
}

fn run_on_cluster(context: &Context, args: &RunArgs) -> Result<ExitCode> {
    // What is wrong already now needs no cluster to be told.
    let options = super::start::options(&args.cluster)?;
    if let Some(dir) = &args.logs {
        prepare_logs(dir)?;
    }
    let program = &args.command[0];
    // kubectl is the cluster's own.
    if program != "kubectl"
        && let Some(obstacle) = foreground::obstacle(program)
    {
        let outcome = Outcome::Command(Ending::NotRun(obstacle));
        tell(context, args, &outcome);
        return Ok(exit(&outcome));
    }
    interrupt::be_thorough()?;
    let limit = args.timeout.map(Duration::from_secs);
    let deadline = limit.map(|limit| Instant::now() + limit);
    let alarm = limit.map(Alarm::after);
    let progress = context.progress.as_ref();
    if let Err(e) = cluster::sweep(&context.store, progress)
        && e.kind() != Kind::Interrupted
    {
        progress.warn(&format!("a throwaway cluster is left: {}", e.message()));
    }
    let global = &context.global;
    let name = global.profile_given.then_some(&global.profile);
    let cluster = match Throwaway::begin(&context.store, name, args.keep, progress) {
        Err(e) if e.kind() == Kind::Interrupted => {
            let outcome = interrupted(alarm.as_ref());
            tell(context, args, &outcome);
            return Ok(exit(&outcome));
        }
        begun => begun?,
    };
    let outcome = match cluster.start(options) {
        Ok(started) => {
            drop(alarm);
            progress.note(&format!(
                "==> Run `{}` on the cluster `{}`",
                program.display(),
                cluster.name()
            ));
            command(args, &started.access)
                .and_then(|command| foreground::run(command, deadline))
                .map_or_else(Outcome::StartFailed, Outcome::Command)
        }
        // Also where it looks like something else from further inside.
        Err(_) if interrupt::requested() => interrupted(alarm.as_ref()),
        Err(e) => Outcome::StartFailed(e),
    };
    tell(context, args, &outcome);
    finish(context, args, cluster, &outcome)
}

fn interrupted(alarm: Option<&Alarm>) -> Outcome {
    match interrupt::take_signal() {
        None if alarm.is_some_and(Alarm::rang) => Outcome::StartTimedOut,
        signal => Outcome::StartInterrupted(signal.unwrap_or(signal_hook::consts::SIGINT)),
    }
}

/// Makes the folder for logs, so that a bad one is told before there is anything to log.
fn prepare_logs(dir: &Path) -> Result<()> {
    let fail = || format!("logs cannot be written to {}", dir.display());
    std::fs::create_dir_all(dir).context(Kind::Usage, fail)?;
    tempfile::tempfile_in(dir).context(Kind::Usage, fail)?;
    Ok(())
}

/// The command, with the cluster's kubeconfig, profile and kubectl.
fn command(args: &RunArgs, access: &Access) -> Result<Command> {
    let mut command = Command::new(&args.command[0]);
    command
        .args(&args.command[1..])
        .env("KUBECONFIG", access.dir.kubeconfig())
        .env("KUBBY_PROFILE", access.profile.name.as_str());
    let kubectl = &access.profile.assets.kubectl;
    // The cache may be deleted at any time; the host's own kubectl does as well.
    if kubectl.is_file() {
        let bin = access.dir.bin();
        fsutil::create_private_dir(&bin)?;
        let link = bin.join("kubectl");
        fsutil::remove_all(&link)?;
        std::os::unix::fs::symlink(kubectl, &link)
            .context(Kind::Internal, || format!("cannot make {}", link.display()))?;
        command.env("PATH", with_first(bin)?);
    }
    Ok(command)
}

/// The search path, with a folder before all others.
fn with_first(folder: PathBuf) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let others = std::env::split_paths(&path).filter(|p| !p.as_os_str().is_empty());
    std::env::join_paths(std::iter::once(folder).chain(others)).context(Kind::Internal, || {
        "the folder of kubectl has a colon".into()
    })
}

/// Keeps logs and the cluster as it was asked for; else nothing of it is left.
fn finish(
    context: &Context,
    args: &RunArgs,
    cluster: Throwaway<'_>,
    outcome: &Outcome,
) -> Result<ExitCode> {
    let progress = context.progress.as_ref();
    let failed = code(outcome) != 0;
    // Who sends signals wants an end, and may lose patience.
    let hurried = matches!(
        outcome,
        Outcome::StartInterrupted(_) | Outcome::Command(Ending::Interrupted(_))
    );
    if failed && !hurried {
        // A limit that has passed is no reason to stop any more.
        interrupt::forget();
        keep_logs(context, args, &cluster, outcome);
    }
    interrupt::ignore();
    if args.keep || (args.keep_on_failure && failed && !hurried) {
        let name = cluster.name().clone();
        let kubeconfig = context.store.profile_dir(&name).kubeconfig();
        if cluster.keep()? {
            progress.note(&format!(
                "The cluster `{name}` is kept:\n  export KUBECONFIG={}\n  kubby ssh -p {name}\n  kubby delete -p {name}",
                crate::remote::quote(&kubeconfig.display().to_string())
            ));
        }
    } else if let Err(e) = cluster.delete() {
        let e = e.with_hint("the next kubby run or kubby delete tries again");
        if !failed {
            return Err(e);
        }
        ui::show_error(&e);
    }
    Ok(exit(outcome))
}

/// Writes a bundle of what can still be seen of a failure; that it cannot changes no exit code.
fn keep_logs(context: &Context, args: &RunArgs, cluster: &Throwaway<'_>, outcome: &Outcome) {
    let progress = context.progress.as_ref();
    let name = cluster.name();
    let Some(dir) = &args.logs else {
        progress.note("kubby run --logs DIR keeps the logs of a run that fails, --keep-on-failure the cluster");
        return;
    };
    let failure = match outcome {
        Outcome::StartFailed(e) => Some(e),
        _ => None,
    };
    let file = dir.join(format!("{name}.tar.gz"));
    let written = cluster::collect_bundle(&context.store, name, failure, progress)
        .and_then(|bundle| bundle.write(&file).map(|_| bundle.problems));
    match written {
        Ok(problems) => {
            for problem in problems {
                progress.warn(&problem);
            }
            progress.note(&format!("The logs are in {}", file.display()));
        }
        Err(e) => progress.warn(&format!("there are no logs: {}", e.message())),
    }
}

/// Says what went wrong, and whose exit code this is.
fn tell(context: &Context, args: &RunArgs, outcome: &Outcome) {
    let program = args.command[0].display();
    let within = args.timeout.unwrap_or_default();
    let text = match outcome {
        Outcome::StartFailed(e) => return super::show_error(e, context.global.output),
        Outcome::Command(Ending::Exited(0)) => return,
        Outcome::Command(Ending::Exited(code)) => {
            // For people: a script has the code.
            return context
                .progress
                .note(&format!("`{program}` ended with {code}"));
        }
        Outcome::Command(Ending::TimedOut) => {
            format!("`{program}` did not end within {within} s, start included (--timeout)")
        }
        Outcome::Command(Ending::Interrupted(signal)) => {
            format!("signal {signal} ended `{program}`")
        }
        Outcome::Command(Ending::NotRun(Obstacle::NotFound)) => {
            format!("there is no command `{program}`")
        }
        Outcome::Command(Ending::NotRun(Obstacle::NotExecutable(e))) => {
            format!("`{program}` cannot be executed: {e}")
        }
        Outcome::StartTimedOut => {
            format!("the cluster was not ready within {within} s (--timeout)")
        }
        Outcome::StartInterrupted(signal) => format!("signal {signal} ended the start"),
    };
    ui::say(&format!("error: {text}"));
}

/// The exit code of what came of it.
fn code(outcome: &Outcome) -> u8 {
    let signal = |signal: i32| u8::try_from(128 + signal).unwrap_or(255);
    match outcome {
        Outcome::Command(Ending::Exited(code)) => *code,
        Outcome::Command(Ending::NotRun(obstacle)) => obstacle.exit_code(),
        Outcome::Command(Ending::TimedOut) | Outcome::StartTimedOut => TIMED_OUT,
        Outcome::Command(Ending::Interrupted(number)) | Outcome::StartInterrupted(number) => {
            signal(*number)
        }
        Outcome::StartFailed(e) if e.kind() == Kind::Internal => DEFECT,
        Outcome::StartFailed(e) => e.kind().exit_code(),
    }
}

fn exit(outcome: &Outcome) -> ExitCode {
    ExitCode::from(code(outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_code() {
        let failed = |kind| Outcome::StartFailed(Error::new(kind, "x"));
        let missing = Obstacle::NotExecutable(std::io::ErrorKind::PermissionDenied.into());
        for (outcome, expected) in [
            (Outcome::Command(Ending::Exited(0)), 0),
            (Outcome::Command(Ending::Exited(7)), 7),
            (Outcome::Command(Ending::Exited(255)), 255),
            (Outcome::Command(Ending::TimedOut), 124),
            (Outcome::StartTimedOut, 124),
            (Outcome::Command(Ending::NotRun(Obstacle::NotFound)), 127),
            (Outcome::Command(Ending::NotRun(missing)), 126),
            (Outcome::Command(Ending::Interrupted(2)), 130),
            (Outcome::StartInterrupted(15), 143),
            (Outcome::StartInterrupted(1), 129),
            (failed(Kind::Internal), 125),
            (failed(Kind::Assets), 11),
            (failed(Kind::Unhealthy), 14),
        ] {
            assert_eq!(code(&outcome), expected);
        }
    }

    #[test]
    fn kubectl_comes_before_the_hosts() {
        let path = with_first("/a b".into()).unwrap();
        let mut folders = std::env::split_paths(&path);
        assert_eq!(folders.next(), Some("/a b".into()));
        assert!(with_first("/a:b".into()).is_err());
    }
}
