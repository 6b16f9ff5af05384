//! The host's clock: certificates begin and end by it, and nodes take it over.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::cluster::saved::state::MANIFEST;
use crate::doctor::finding::Finding;
use crate::doctor::surroundings::Surroundings;
use crate::error::Kind;
use crate::tool::Tool;
use crate::units::human_time;

const NAME: &str = "clock";

/// kubby is younger than this moment, the beginning of 2026; seconds since 1970.
const FIRST: i64 = 1_767_225_600;

/// File systems of other hosts may be a little ahead.
const AHEAD: i64 = 5 * 60;

struct Facts {
    /// Seconds since 1970.
    now: i64,
    /// What kubby wrote last, and when.
    latest: Option<(PathBuf, i64)>,
    /// Whether somebody keeps the clock right; nothing where that cannot be asked.
    kept: Option<bool>,
}

pub(in crate::doctor) fn look(s: &Surroundings<'_>) -> Vec<Finding> {
    let profiles = s.profiles.iter().map(|seen| seen.dir.profile());
    let templates = std::fs::read_dir(s.store.templates_dir());
    let templates = templates.into_iter().flatten().flatten();
    let manifests = templates.map(|entry| entry.path().join(MANIFEST));
    let latest = profiles
        .chain(manifests)
        .filter_map(|path| Some((written(&path)?, path)))
        .max()
        .map(|(at, path)| (path, at));
    vec![judge(&Facts {
        now: seconds(SystemTime::now()),
        latest,
        kept: is_kept(),
    })]
}

fn written(path: &Path) -> Option<i64> {
    Some(seconds(std::fs::metadata(path).ok()?.modified().ok()?))
}

fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(_) => 0,
    }
}

/// What systemd says of it, where systemd runs.
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

fn judge(facts: &Facts) -> Finding {
    let set = "set it: sudo timedatectl set-ntp true, or sudo date -s 'YYYY-MM-DD HH:MM'";
    let now = human_time(facts.now);
    if facts.now < FIRST {
        return Finding::failure(
            NAME,
            format!("the clock says {now}, which is long past: no certificate is valid"),
            set,
        );
    }
    if let Some((path, at)) = &facts.latest
        && *at > facts.now + AHEAD
    {
        return Finding::failure(
            NAME,
            format!(
                "the clock says {now}, but {} was written at {}: the clock has gone back, and \
                 certificates can be not valid yet",
                path.display(),
                human_time(*at)
            ),
            set,
        );
    }
    if facts.kept == Some(false) {
        return Finding::warning(
            NAME,
            format!("the clock says {now}, and nobody keeps it right (NTP is not synchronised)"),
            "sudo timedatectl set-ntp true",
        );
    }
    Finding::ok(NAME, format!("the clock says {now}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    #[test]
    fn clocks_are_judged() {
        let now = FIRST + 1_000_000;
        let file = |at| Some((PathBuf::from("/p/profile.toml"), at));
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
            let found = judge(&Facts { now, latest, kept });
            assert_eq!(found.state, state, "{}", found.reason);
            assert!(found.reason.contains(words), "{}", found.reason);
        }
    }
}
