//! The clusters' certificates exist, and are valid for long enough.

use time::{Duration, OffsetDateTime};

use crate::cluster::Cluster;
use crate::cluster::operations::certs;
use crate::doctor::context::{DoctorContext, Seen};
use crate::doctor::finding::{Finding, State, explain, or};
use crate::pki::{self, CertName};
use crate::profile::{Profile, ProfileName};
use crate::units::human_time;

/// `start` renews certificates that end sooner.
const SOON: Duration = Duration::days(30);

pub(in crate::doctor) fn look(s: &DoctorContext<'_>) -> Vec<Finding> {
    let now = OffsetDateTime::now_utc();
    // A start that was interrupted early has made none yet.
    let made = s.settled().filter(|(seen, _)| seen.dir.pki().exists());
    let found = made.map(|(seen, profile)| match of(seen, now) {
        found if found.state == State::Ok => of_workers(seen, profile, now).unwrap_or(found),
        found => found,
    });
    or(found, Finding::ok("there are none yet"))
}

fn of(seen: &Seen, now: OffsetDateTime) -> Finding {
    let name = &seen.name;
    match pki::load(&seen.dir.pki()) {
        Ok(pki) => judge(name, pki.first_to_expire(), now),
        // A copy lacks some of the original's, and makes its own.
        Err(_) if seen.dir.handover().exists() => {
            Finding::skipped(format!("`{name}` gets its own at its first start"))
        }
        Err(e) => Finding::failure(
            format!("`{name}`: {}", explain(&e)),
            format!("kubby start{} makes what can be made", name.flag()),
        ),
    }
}

fn judge(
    name: &ProfileName,
    first: Option<(CertName, OffsetDateTime)>,
    now: OffsetDateTime,
) -> Finding {
    let Some((certificate, end)) = first else {
        return Finding::ok(format!("`{name}` has none yet"));
    };
    judge_end(
        name,
        certificate.stem(),
        certificate.authority().is_none(),
        end,
        now,
    )
}

/// Returns a finding about the certificates that workers have of their own; none where they are valid for long
/// enough, or not made yet.
fn of_workers(seen: &Seen, profile: &Profile, now: OffsetDateTime) -> Option<Finding> {
    let cluster = Cluster {
        profile: profile.clone(),
        dir: seen.dir.clone(),
    };
    let all = certs::of_further_nodes(&cluster).ok()?.into_iter();
    let ends = all.filter_map(|certificate| Some((certificate.ends_at?, certificate.name)));
    let (end, what) = ends.min()?;
    let end = OffsetDateTime::from_unix_timestamp(end).ok()?;
    let found = judge_end(&seen.name, &what, false, end, now);
    (found.state != State::Ok).then_some(found)
}

fn judge_end(
    name: &ProfileName,
    what: &str,
    is_authority: bool,
    end: OffsetDateTime,
    now: OffsetDateTime,
) -> Finding {
    let (at, flag) = (human_time(end.unix_timestamp()), name.flag());
    let remedy = if is_authority {
        format!("kubby start{flag} renews it, and keeps its key")
    } else {
        format!("kubby certs renew{flag} renews it, and so does kubby start{flag}")
    };
    let certificate = format!("`{name}`: the certificate {what}");
    if end <= now {
        Finding::failure(format!("{certificate} ended on {at}"), remedy)
    } else if end - now < SOON {
        Finding::warning(format!("{certificate} ends on {at}"), remedy)
    } else {
        Finding::ok(format!("`{name}`: all are valid until {at} or longer"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_judged() {
        let name: ProfileName = "dev".parse().unwrap();
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let table = [
            (CertName::Admin, 300, State::Ok, ""),
            (CertName::Admin, 29, State::Warning, "renews it"),
            (CertName::Admin, -1, State::Failure, "renews it"),
            (
                CertName::Ca,
                -1,
                State::Failure,
                "kubby start -p dev renews it",
            ),
        ];
        for (certificate, days, state, remedy) in table {
            let end = now + Duration::days(days);
            let found = judge(&name, Some((certificate, end)), now);
            assert_eq!(found.state, state, "{days}");
            assert!(found.remedy.unwrap_or_default().contains(remedy));
        }
        assert_eq!(judge(&name, None, now).state, State::Ok);
    }
}
