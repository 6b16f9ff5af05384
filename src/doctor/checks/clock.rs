//! The host's clock: certificates begin and end by it, and nodes take their time from it.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::cluster::saved::state::MANIFEST;
use crate::doctor::context::DoctorContext;
use crate::doctor::files::entries;
use crate::doctor::finding::Finding;
use crate::error::Kind;
use crate::tool::Tool;
use crate::units::human_time;

/// The beginning of 2026, in seconds since 1970; kubby is younger.
const FIRST: i64 = 1_767_225_600;

/// The allowed lead of the clocks of other hosts' file systems, in seconds.
const AHEAD: i64 = 5 * 60;

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    let profiles = s.profiles.iter().map(|seen| seen.dir.profile());
    let templates = entries(&s.env.store.templates_dir()).into_iter();
    let written = profiles
        .chain(templates.map(|template| template.join(MANIFEST)))
        .filter_map(|path| Some((seconds(path.metadata().ok()?.modified().ok()?), path)));
    vec![judge(seconds(SystemTime::now()), written.max(), is_kept())]
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

/// Returns whether a time service keeps the clock right, by systemd; `None` where that is not known.
fn is_kept() -> Option<bool> {
    if !Path::new("/run/systemd/system").exists() {
        return None;
    }
    let output = Tool::new("timedatectl", Kind::Preflight)
        .args(["show", "-p", "NTPSynchronized", "--value"])
        .deadline(Duration::from_secs(5))
        .run(None);
    match output.ok()?.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// Judges the time `now`, in seconds since 1970, by the file that kubby wrote last and the time of that.
fn judge(now: i64, latest: Option<(i64, PathBuf)>, kept: Option<bool>) -> Finding {
    let set = "set it: sudo timedatectl set-ntp true, or sudo date -s 'YYYY-MM-DD HH:MM'";
    let shown = human_time(now);
    if now < FIRST {
        return Finding::failure(
            format!("the clock says {shown}, which is long past: no certificate is valid"),
            set,
        );
    }
    if let Some((at, path)) = latest
        && at > now + AHEAD
    {
        let (path, at) = (path.display(), human_time(at));
        return Finding::failure(
            format!(
                "the clock says {shown}, but {path} was written at {at}: the clock has gone back, \
                 and certificates may not be valid yet"
            ),
            set,
        );
    }
    if kept == Some(false) {
        return Finding::warning(
            format!(
                "the clock says {shown}, and no time service keeps it right (NTP is not synchronised)"
            ),
            "sudo timedatectl set-ntp true",
        );
    }
    Finding::ok(format!("the clock says {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    #[test]
    fn clocks_are_judged() {
        let now = FIRST + 1_000_000;
        let file = |at| Some((at, PathBuf::from("/p/profile.toml")));
        let table = [
            (now, None, None, State::Ok, "the clock says 2026"),
            (now, file(now - 10), Some(true), State::Ok, "2026"),
            (now, file(now + 100), None, State::Ok, "2026"),
            (
                now,
                file(now + 3600),
                Some(true),
                State::Failure,
                "gone back",
            ),
            (now, None, Some(false), State::Warning, "NTP"),
            (0, None, None, State::Failure, "1970-01-01"),
        ];
        for (now, latest, kept, state, words) in table {
            let found = judge(now, latest, kept);
            assert_eq!(found.state, state, "{}", found.reason);
            assert!(found.reason.contains(words), "{}", found.reason);
        }
    }
}
