//! The clusters' certificates are there and last.

use time::{Duration, OffsetDateTime};

use crate::doctor::finding::{Finding, explain};
use crate::doctor::surroundings::Surroundings;
use crate::pki::{self, CertName};
use crate::profile::ProfileName;
use crate::units::human_time;

const NAME: &str = "certificates";

/// `start` renews what ends sooner.
const SOON: Duration = Duration::days(30);

pub(in crate::doctor) fn look(s: &Surroundings<'_>) -> Vec<Finding> {
    let now = OffsetDateTime::now_utc();
    let mut found = Vec::new();
    for (seen, _) in s.settled() {
        // A start that was cut short early has made none yet.
        if !seen.dir.pki().exists() {
            continue;
        }
        found.push(match pki::load(&seen.dir.pki()) {
            Ok(pki) => judge(&seen.name, pki.first_to_expire(), now),
            // A copy leaves some behind with the original, and makes its own.
            Err(_) if seen.dir.handover().exists() => Finding::skipped(
                NAME,
                format!("`{}` gets its own at its first start", seen.name),
            ),
            Err(e) => Finding::failure(
                NAME,
                format!("`{}`: {}", seen.name, explain(&e)),
                format!("kubby start{} makes what can be made", seen.name.flag()),
            ),
        });
    }
    if found.is_empty() {
        found.push(Finding::ok(NAME, "there are none yet"));
    }
    found
}

fn judge(
    name: &ProfileName,
    first: Option<(CertName, OffsetDateTime)>,
    now: OffsetDateTime,
) -> Finding {
    let Some((certificate, end)) = first else {
        return Finding::ok(NAME, format!("`{name}` has none yet"));
    };
    let (what, at) = (certificate.stem(), human_time(end.unix_timestamp()));
    let flag = name.flag();
    let remedy = if certificate.authority().is_none() {
        format!("kubby start{flag} renews it, and keeps its key")
    } else {
        format!("kubby certs renew{flag} renews it, and so does kubby start{flag}")
    };
    if end <= now {
        return Finding::failure(
            NAME,
            format!("`{name}`: the certificate {what} ended on {at}"),
            remedy,
        );
    }
    if end - now < SOON {
        return Finding::warning(
            NAME,
            format!("`{name}`: the certificate {what} ends on {at}"),
            remedy,
        );
    }
    Finding::ok(NAME, format!("`{name}`: all last until {at} or longer"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

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
