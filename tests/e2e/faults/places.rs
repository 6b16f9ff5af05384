//! The places at which kubby can be ended: those that a command passes, as it wrote them down.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};

use crate::env::Env;

/// The signal by which kubby is ended at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Kill,
    Int,
    Term,
}

impl Fault {
    fn word(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Int => "int",
            Fault::Term => "term",
        }
    }

    /// Returns whether a process that got the signal ended as it should. One that had nothing to do any
    /// more ends well.
    fn ended_well(self, status: ExitStatus) -> bool {
        match self {
            Fault::Kill => status.signal() == Some(9),
            Fault::Int | Fault::Term => matches!(status.code(), Some(0 | 130)),
        }
    }
}

/// Runs kubby and ends it at a place. Fails where it never came there, or ended in another way.
pub fn end_at(
    env: &Env,
    profile: &str,
    args: &[&str],
    place: &str,
    fault: Fault,
) -> Result<(), String> {
    let mut command = env.kubby_command();
    command
        .env("KUBBY_PROFILE", profile)
        .env("KUBBY_FAULT", format!("{place}={}", fault.word()))
        .args(args)
        .stdout(Stdio::null());
    let output = command.output().expect("kubby runs");
    if fault.ended_well(output.status) {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "{place}={}: {}\n{text}",
        fault.word(),
        output.status
    ))
}

/// Runs kubby, ended at `last` if that is given, and returns the places that it passed, without
/// those between which nothing happens.
#[track_caller]
pub fn passed(env: &Env, profile: &str, args: &[&str], last: Option<&str>) -> Vec<String> {
    let log = env.root().join("places");
    let _ = std::fs::remove_file(&log);
    let mut command = env.kubby_command();
    command
        .env("KUBBY_PROFILE", profile)
        .env("KUBBY_FAULT_LOG", &log)
        .args(args)
        .stdout(Stdio::null());
    if let Some(last) = last {
        command.env("KUBBY_FAULT", format!("{last}=kill"));
    }
    let output = command.output().expect("kubby runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() == last.is_none(),
        "{}\n{text}",
        output.status
    );
    let log = std::fs::read_to_string(log).expect("the places");
    let mut places: Vec<String> = Vec::new();
    let mut after = false;
    for place in log.lines() {
        if !(after && place.starts_with("before ")) {
            places.push(place.to_owned());
        }
        after = place.starts_with("after ");
    }
    places
}
