//! The output for people while kubby works: steps with elapsed time on a terminal, plain lines
//! elsewhere, nothing with `--quiet`. All of it goes to stderr; stdout is for data.

mod lines;
mod terminal;
mod text;

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::progress::{Progress, Silent};

pub use text::say;
pub(crate) use text::visible;

/// The user's choice of output.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// Whether only errors are shown, by `--quiet`.
    pub quiet: bool,
    /// Whether every line of every tool is shown, by `--verbose`.
    pub verbose: bool,
}

/// Returns the progress display that fits the destination of stderr.
pub fn progress(style: Style) -> Arc<dyn Progress> {
    if style.quiet {
        Arc::new(Silent)
    } else if std::io::stderr().is_terminal() && !style.verbose && !dumb_terminal() {
        Arc::new(terminal::Terminal {
            colour: colours(),
            ..Default::default()
        })
    } else {
        Arc::new(lines::Lines {
            verbose: style.verbose,
        })
    }
}

fn dumb_terminal() -> bool {
    std::env::var_os("TERM").is_some_and(|t| t == "dumb")
}

/// Returns whether stderr takes colours; not if `NO_COLOR` (no-color.org) is set to a text.
fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::io::stderr().is_terminal()
        && !dumb_terminal()
}

/// Prints data to stdout. A reader that closed it (`kubby list | head -1`) is not an error.
///
/// # Errors
/// When stdout cannot be written for another reason, such as a full disk.
pub fn print(text: &str) -> Result<()> {
    use crate::error::{Kind, ResultExt};
    let mut out = std::io::stdout().lock();
    // Names in a list may come from the node. Programs get them unchanged.
    let text = if out.is_terminal() {
        visible(text)
    } else {
        Cow::Borrowed(text)
    };
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
    let mut text = format!("{red}error:{reset} {}", visible(error.message()));
    for cause in error.causes() {
        text.push_str(&format!("\n  caused by: {}", visible(&cause)));
    }
    for (title, detail) in error.details() {
        text.push_str(&format!("\n{bold}{}:{reset}", visible(title)));
        for line in detail.lines() {
            text.push_str(&format!("\n  {dim}|{reset} {}", visible(line)));
        }
    }
    for hint in error.hints() {
        text.push_str(&format!("\n{bold}hint:{reset} {}", visible(hint)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_all_that_it_knows() {
        let inner = std::io::Error::other("connection refused");
        let error = Error::unreachable("cannot reach the node `kubby` over SSH")
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
    fn what_a_terminal_would_obey_is_shown_instead() {
        let bad = "\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m\r\u{202e}txt\u{7f}\tein\n\u{e4}";
        let shown = r"\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m\r\u{202e}txt\u{7f}";
        assert_eq!(visible(bad), format!("{shown}\tein\n\u{e4}"));
        assert!(matches!(visible("plain ä\n"), Cow::Borrowed(_)));
        let inner = Error::internal(bad);
        let error = Error::unhealthy(bad)
            .with_source(inner)
            .with_detail(bad, bad)
            .with_hint(bad);
        for colour in [false, true] {
            let text = render_error(&error, colour);
            assert_eq!(text.matches(shown).count(), 5, "{text}");
            let own = ["\x1b[31;1m", "\x1b[2m", "\x1b[1m", "\x1b[0m"];
            let rest = own.iter().fold(text, |text, own| text.replace(own, ""));
            assert!(!rest.contains(['\u{1b}', '\u{7}', '\u{9b}', '\r', '\u{202e}']));
        }
    }
}
