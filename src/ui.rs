//! What a person sees while kubby works: steps with elapsed time on a terminal, plain lines off
//! it, nothing with `--quiet`. All of it goes to stderr; stdout is for data.

mod lines;
mod terminal;

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::progress::{Progress, Silent};

/// How the user wants to be told.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// `--quiet`: errors only.
    pub quiet: bool,
    /// `--verbose`: every line of every tool.
    pub verbose: bool,
}

/// The progress display that fits the place stderr leads to.
pub fn progress(style: Style) -> Arc<dyn Progress> {
    if style.quiet {
        Arc::new(Silent)
    } else if std::io::stderr().is_terminal() && !style.verbose && !dumb_terminal() {
        Arc::new(terminal::Terminal::new(colours()))
    } else {
        Arc::new(lines::Lines::new(style.verbose))
    }
}

fn dumb_terminal() -> bool {
    std::env::var_os("TERM").is_some_and(|t| t == "dumb")
}

/// Whether stderr takes colours; `NO_COLOR` (no-color.org) says no when it is not empty.
fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::io::stderr().is_terminal()
        && !dumb_terminal()
}

/// Prints data to stdout. A reader that went away (`kubby list | head -1`) is no error.
///
/// # Errors
/// When stdout cannot be written for another reason, such as a full disk.
pub fn print(text: &str) -> Result<()> {
    use crate::error::{Kind, ResultExt};
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context(Kind::Internal, || "cannot write to standard output".into()),
    }
}

/// Renders a table without a margin on its left.
pub fn table(table: &comfy_table::Table) -> String {
    table
        .trim_fmt()
        .lines()
        .map(|line| format!("{}\n", line.trim_start_matches(' ')))
        .collect()
}

/// Prints a line for people to stderr.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Shows an error to a person: message, causes, captured output, hints.
pub fn show_error(error: &Error) {
    say(&render_error(error, colours()));
}

fn render_error(error: &Error, colour: bool) -> String {
    let (red, dim, bold, reset) = if colour {
        ("\x1b[31;1m", "\x1b[2m", "\x1b[1m", "\x1b[0m")
    } else {
        ("", "", "", "")
    };
    let mut text = format!("{red}error:{reset} {}", error.message());
    for cause in error.causes() {
        text.push_str(&format!("\n  caused by: {cause}"));
    }
    for (title, detail) in error.details() {
        text.push_str(&format!("\n{bold}{title}:{reset}"));
        for line in detail.lines() {
            text.push_str(&format!("\n  {dim}|{reset} {line}"));
        }
    }
    for hint in error.hints() {
        text.push_str(&format!("\n{bold}hint:{reset} {hint}"));
    }
    text
}

/// `12.3 s` or `2 min 05 s`.
fn elapsed(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        let whole = duration.as_secs();
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use std::time::Duration;

    #[test]
    fn an_error_shows_all_that_it_knows() {
        let inner = std::io::Error::other("connection refused");
        let error = Error::new(
            Kind::NodeUnreachable,
            "cannot reach the node `kubby` over SSH",
        )
        .with_source(inner)
        .with_detail("the console's last lines", "one\ntwo\n")
        .with_hint("kubby logs --console");
        insta::assert_snapshot!(render_error(&error, false), @r"
        error: cannot reach the node `kubby` over SSH
          caused by: connection refused
        the console's last lines:
          | one
          | two
        hint: kubby logs --console
        ");
        assert!(render_error(&error, true).contains("\x1b[31;1m"));
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(elapsed(Duration::from_millis(1234)), "1.2 s");
        assert_eq!(elapsed(Duration::from_secs(125)), "2 min 05 s");
    }
}
