//! Reporting the certificates that a start renewed.

use std::collections::BTreeMap;

use crate::pki::{self, Pki};
use crate::progress::Progress;

/// Reports which certificates were renewed because of their age or faults; returns their names.
pub(crate) fn report(pki: &Pki, progress: &dyn Progress) -> Vec<String> {
    let renewed = pki.renewed();
    if renewed.is_empty() {
        return Vec::new();
    }
    if renewed.iter().any(|r| r.reason == pki::NOT_YET_VALID) {
        progress.warn(
            "certificates were not valid yet by this host's clock, so they were renewed; \
             check that the clock is right: date",
        );
    }
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for r in renewed {
        by_reason.entry(r.reason).or_default().push(r.name.stem());
    }
    let texts = by_reason
        .iter()
        .map(|(why, names)| format!("{} ({why})", names.join(", ")));
    let texts: Vec<String> = texts.collect();
    progress.step("Renew certificates").done(texts.join("; "));
    renewed.iter().map(|r| r.name.stem().to_owned()).collect()
}
