//! The display of progress: steps with elapsed time on a terminal, plain lines elsewhere, nothing with
//! `--quiet`. All of it goes to stderr; stdout is for data.

mod lines;
mod terminal;

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::progress::{Progress, Silent};

/// The amount of output that the user wants.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// `--quiet`: errors only.
    pub quiet: bool,
    /// `--verbose`: every line of every tool.
    pub verbose: bool,
}

/// Returns the progress display for a terminal or for other outputs, depending on stderr.
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

/// Returns whether stderr supports colours; `NO_COLOR` (no-color.org) disables them if it is not empty.
fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::io::stderr().is_terminal()
        && !dumb_terminal()
}

/// Makes text safe for a terminal: control characters (escape sequences of a node, an archive or a
/// malicious server) and marks that reverse the order of letters become visible as `\u{1b}`. Line breaks
/// and tabs stay.
pub fn visible(text: &str) -> Cow<'_, str> {
    let harmless = |c: char| matches!(c, '\n' | '\t') || !(c.is_control() || is_reordering(c));
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if harmless(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_default());
        }
    }
    Cow::Owned(shown)
}

/// Returns whether a character makes a terminal show letters in another order.
fn is_reordering(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Prints data to stdout. A reader that has exited (`kubby list | head -1`) is not an error.
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
    fn what_a_terminal_would_obey_is_shown_instead() {
        let bad = "\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m\r\u{202e}txt\u{7f}\tein\n\u{e4}";
        let shown = r"\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m\r\u{202e}txt\u{7f}";
        assert_eq!(visible(bad), format!("{shown}\tein\n\u{e4}"));
        assert!(matches!(visible("plain ä\n"), Cow::Borrowed(_)));
        let inner = Error::new(Kind::Internal, bad);
        let error = Error::new(Kind::Unhealthy, bad)
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

    #[test]
    fn durations_read_well() {
        assert_eq!(elapsed(Duration::from_millis(1234)), "1.2 s");
        assert_eq!(elapsed(Duration::from_secs(125)), "2 min 05 s");
    }
}
