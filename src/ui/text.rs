//! Text for people: made safe, and the forms that both displays of progress share.

use std::borrow::Cow;
use std::io::Write;
use std::time::{Duration, Instant};

/// Returns text that is safe to show: characters that a terminal obeys (escape sequences of a malicious
/// node, archive or server) or that change the order of letters become visible as `\u{1b}`. Line
/// breaks and tabs stay.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
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

/// Returns whether a mark makes a terminal show letters in another order.
fn is_reordering(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Prints a line for people to stderr.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Returns the time since `start` as `12.3 s` or `2 min 05 s`.
pub(super) fn elapsed(start: Instant) -> String {
    shown(start.elapsed())
}

fn shown(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        let whole = duration.as_secs();
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

/// Returns a step's summary for the end of its line: `: SUMMARY`, or nothing.
pub(super) fn tail(summary: &str) -> String {
    match summary {
        "" => String::new(),
        summary => format!(": {}", visible(summary)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(shown(Duration::from_millis(1234)), "1.2 s");
        assert_eq!(shown(Duration::from_secs(125)), "2 min 05 s");
    }
}
