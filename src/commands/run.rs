//! `kubby run`: runs a command on a throwaway cluster.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use super::context::Context;
use crate::cli::RunArgs;
use crate::cluster;
use crate::cluster::Cluster;
use crate::cluster::operations::throwaway::Throwaway;
use crate::cluster::spec::StartOptions;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::foreground::{self, Ending, Obstacle};
use crate::interrupt::{self, Alarm};
use crate::{fsutil, ui};

/// The exit code after the time limit, the same as that of timeout(1).
const TIMED_OUT: u8 = 124;

/// The exit code for a defect of kubby. Most failing commands exit with 1, so that cannot be it.
const DEFECT: u8 = 125;

/// The result of a run.
enum Outcome {
    /// The command ran or could not be executed.
    Command(Ending),
    /// The time limit ended the start.
    StartTimedOut,
    /// A signal ended the start.
    StartInterrupted(i32),
    /// The start failed.
    StartFailed(Error),
}

/// Runs the command.
pub(super) fn run(context: &Context, args: &RunArgs) -> Result<ExitCode> {
    match run_on_cluster(context, args) {
        Err(e) if e.kind() == Kind::Internal => {
            super::show_error(&e, context.global.output);
            Ok(ExitCode::from(DEFECT))
        }
        result => result,
    }
}

fn run_on_cluster(context: &Context, args: &RunArgs) -> Result<ExitCode> {
    // Report errors that need no cluster before starting one.
    args.cluster.egress.settings()?;
    let options = StartOptions {
        cluster: args.cluster.clone(),
        ..StartOptions::default()
    };
    if let Some(dir) = &args.logs {
        prepare_logs(dir)?;
    }
    let program = &args.command[0];
    // kubectl comes with the cluster.
    if program != "kubectl"
        && let Some(obstacle) = foreground::obstacle(program)
    {
        let outcome = Outcome::Command(Ending::NotRun(obstacle));
        return Ok(report(context, args, &outcome));
    }
    interrupt::be_thorough()?;
    let limit = args.timeout.map(Duration::from_secs);
    let deadline = limit.map(|limit| Instant::now() + limit);
    let alarm = limit.map(Alarm::after);
    let progress = context.progress.as_ref();
    let env = context.env();
    sweep(context);
    let global = &context.global;
    let name = global.profile_given.then_some(&global.profile);
    let cluster = match Throwaway::begin(&env, name, args.keep) {
        Err(e) if e.kind() == Kind::Interrupted => {
            return Ok(report(context, args, &interrupted(alarm.as_ref())));
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
            command(args, &started.cluster)
                .and_then(|command| foreground::run(command, deadline))
                .map_or_else(Outcome::StartFailed, Outcome::Command)
        }
        // An interrupted start may return any kind of error.
        Err(_) if interrupt::requested() => interrupted(alarm.as_ref()),
        Err(e) => Outcome::StartFailed(e),
    };
    let code = report(context, args, &outcome);
    finish(context, args, cluster, &outcome)?;
    Ok(code)
}

/// Deletes the throwaway clusters that killed processes have left.
fn sweep(context: &Context) {
    if let Err(e) = cluster::operations::throwaway::sweep(&context.env())
        && e.kind() != Kind::Interrupted
    {
        context.progress.warn(&format!(
            "could not delete a leftover throwaway cluster: {}",
            e.message()
        ));
    }
}

fn interrupted(alarm: Option<&Alarm>) -> Outcome {
    match interrupt::take_signal() {
        None if alarm.is_some_and(Alarm::rang) => Outcome::StartTimedOut,
        signal => Outcome::StartInterrupted(signal.unwrap_or(signal_hook::consts::SIGINT)),
    }
}

/// Creates the folder for logs and checks that it is writable, before the start.
fn prepare_logs(dir: &Path) -> Result<()> {
    let fail = || format!("logs cannot be written to {}", dir.display());
    std::fs::create_dir_all(dir).context(Kind::Usage, fail)?;
    tempfile::tempfile_in(dir).context(Kind::Usage, fail)?;
    Ok(())
}

/// Returns the command with the cluster's kubeconfig, profile and kubectl in its environment.
fn command(args: &RunArgs, cluster: &Cluster) -> Result<Command> {
    let mut command = Command::new(&args.command[0]);
    command
        .args(&args.command[1..])
        .env("KUBECONFIG", cluster.dir.kubeconfig())
        .env("KUBBY_PROFILE", cluster.profile.name.as_str());
    let kubectl = &cluster.profile.assets.kubectl;
    // Users may delete the cache at any time; then the host's own kubectl is used.
    if kubectl.is_file() {
        let bin = cluster.dir.bin();
        fsutil::create_private_dir(&bin)?;
        let link = bin.join("kubectl");
        fsutil::remove_all(&link)?;
        std::os::unix::fs::symlink(kubectl, &link)
            .context(Kind::Internal, || format!("cannot make {}", link.display()))?;
        command.env("PATH", with_first(bin)?);
    }
    Ok(command)
}

/// Returns the search path with a folder before all others.
fn with_first(folder: PathBuf) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let others = std::env::split_paths(&path).filter(|p| !p.as_os_str().is_empty());
    std::env::join_paths(std::iter::once(folder).chain(others)).context(Kind::Internal, || {
        "the path of kubectl's folder contains a colon".into()
    })
}

/// Saves logs and keeps the cluster if the flags say so; otherwise deletes the cluster.
fn finish(
    context: &Context,
    args: &RunArgs,
    cluster: Throwaway<'_>,
    outcome: &Outcome,
) -> Result<()> {
    let progress = context.progress.as_ref();
    let failed = code(outcome) != 0;
    // After a signal, exit soon: the sender may send SIGKILL next.
    let hurried = matches!(
        outcome,
        Outcome::StartInterrupted(_) | Outcome::Command(Ending::Interrupted(_))
    );
    if failed && !hurried {
        // The time limit does not apply to logs and deletion.
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
    Ok(())
}

/// Writes a support bundle after a failure. An error here does not change the exit code.
fn keep_logs(context: &Context, args: &RunArgs, cluster: &Throwaway<'_>, outcome: &Outcome) {
    let progress = context.progress.as_ref();
    let name = cluster.name();
    let Some(dir) = &args.logs else {
        progress
            .note("--logs DIR saves the logs of a failed run, --keep-on-failure keeps its cluster");
        return;
    };
    let failure = match outcome {
        Outcome::StartFailed(e) => Some(e),
        _ => None,
    };
    let file = dir.join(format!("{name}.tar.gz"));
    let written = cluster::operations::support_bundle::collect(&context.env(), name, failure)
        .and_then(|bundle| bundle.write(&file).map(|_| bundle.problems));
    match written {
        Ok(problems) => {
            for problem in problems {
                progress.warn(&problem);
            }
            progress.note(&format!("The logs are in {}", file.display()));
        }
        Err(e) => progress.warn(&format!("could not save the logs: {}", e.message())),
    }
}

/// Reports a failure, and whether the exit code is the command's or kubby's. Returns that code.
fn report(context: &Context, args: &RunArgs, outcome: &Outcome) -> ExitCode {
    let program = args.command[0].display();
    let within = args.timeout.unwrap_or_default();
    let fail = |text: String| ui::say(&format!("error: {text}"));
    match outcome {
        Outcome::StartFailed(e) => super::show_error(e, context.global.output),
        Outcome::StartTimedOut => {
            fail(format!(
                "the cluster was not ready within {within} s (--timeout)"
            ));
        }
        Outcome::StartInterrupted(signal) => fail(format!("signal {signal} ended the start")),
        Outcome::Command(ending) => match ending {
            Ending::Exited(0) => {}
            // Scripts use the exit code, so this is progress only.
            Ending::Exited(code) => {
                context
                    .progress
                    .note(&format!("`{program}` ended with {code}"));
            }
            Ending::TimedOut => fail(format!(
                "`{program}` did not end within {within} s, start included (--timeout)"
            )),
            Ending::Interrupted(signal) => fail(format!("signal {signal} ended `{program}`")),
            Ending::NotRun(Obstacle::NotFound) => fail(format!("there is no command `{program}`")),
            Ending::NotRun(Obstacle::NotExecutable(e)) => {
                fail(format!("`{program}` cannot be executed: {e}"));
            }
        },
    }
    ExitCode::from(code(outcome))
}

/// Returns the exit code for a result.
fn code(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Command(Ending::Exited(code)) => *code,
        Outcome::Command(Ending::NotRun(obstacle)) => obstacle.exit_code(),
        Outcome::Command(Ending::TimedOut) | Outcome::StartTimedOut => TIMED_OUT,
        Outcome::Command(Ending::Interrupted(number)) | Outcome::StartInterrupted(number) => {
            u8::try_from(128 + number).unwrap_or(255)
        }
        Outcome::StartFailed(e) if e.kind() == Kind::Internal => DEFECT,
        Outcome::StartFailed(e) => e.kind().exit_code(),
    }
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
