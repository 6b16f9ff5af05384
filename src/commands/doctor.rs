//! `kubby doctor`.

use std::process::ExitCode;

use serde_json::json;

use super::context::Context;
use crate::doctor::{self, Finding, Repaired, State};
use crate::error::{Kind, Result};

/// Runs the command. A failed check is a result and not an error; the exit code shows it.
pub(super) fn run(context: &Context, fix: bool) -> Result<ExitCode> {
    let (repairs, findings) = if fix {
        doctor::repair(&context.env())?
    } else {
        (Vec::new(), doctor::diagnose(&context.env())?)
    };
    let healthy = doctor::is_healthy(&findings);
    let mut data = json!({"healthy": healthy, "findings": findings});
    if fix {
        data["repairs"] = json!(repairs);
    }
    let text = text(&repairs, &findings, fix);
    let success = context.report("Doctor", &data, &text)?;
    Ok(match healthy {
        true => success,
        false => ExitCode::from(Kind::Preflight.exit_code()),
    })
}

fn text(repairs: &[Repaired], findings: &[Finding], fix: bool) -> String {
    let widest = findings.iter().map(|f| f.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for repaired in repairs {
        let word = if repaired.done { "fixed" } else { "left" };
        text.push_str(&row(word, repaired.name, widest, &repaired.what));
    }
    for finding in findings {
        let state = format!("{:?}", finding.state).to_lowercase();
        text.push_str(&row(&state, finding.name, widest, &finding.reason));
        if let Some(remedy) = &finding.remedy {
            text.push_str(&row("", "", widest, &format!("-> {remedy}")));
        }
    }
    let count = |state| findings.iter().filter(|f| f.state == state).count();
    let failures = count(State::Failure);
    let warnings = count(State::Warning);
    text.push_str(&format!(
        "\n{}, {}, {} ok, {} skipped\n",
        counted(failures, "failure"),
        counted(warnings, "warning"),
        count(State::Ok),
        count(State::Skipped)
    ));
    let fixable = findings.iter().filter(|f| f.fixable).count();
    if fixable > 0 && !fix {
        text.push_str(&format!("`kubby doctor --fix` repairs {fixable} of them\n"));
    }
    text
}

fn row(state: &str, name: &str, widest: usize, what: &str) -> String {
    format!("{state:<8} {name:<widest$}  {what}\n")
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
