//! A cluster's certificates: what there is, and making them anew.

use std::collections::BTreeMap;

use serde::Serialize;
use time::OffsetDateTime;

use crate::cluster::Access;
use crate::cluster::StartOptions;
use crate::cluster::context;
use crate::cluster::start;
use crate::error::Result;
use crate::hypervisor::{Hypervisor, Libvirt, State};
use crate::pki::{self, CertName, Pki, PkiSpec};
use crate::profile::ProfileName;
use crate::progress::Progress;
use crate::store::Store;

/// One row of `kubby certs list`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// Its file below the cluster's folder `pki`, without `.crt`.
    pub name: &'static str,
    /// Its subject; absent where it is missing or damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The name of the authority that signs it; absent for an authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<&'static str>,
    /// When it ends, seconds since 1970; absent where it is missing or damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<i64>,
    /// Whole days until then; negative when it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub days_left: Option<i64>,
    /// Why the next start renews it; absent when it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renewal: Option<&'static str>,
}

/// What came of `kubby certs renew`.
#[derive(Debug, Clone)]
pub struct Renewal {
    /// The certificates that were made anew.
    pub renewed: Vec<&'static str>,
    /// The node has them; if not, the next start brings them there.
    pub in_use: bool,
}

/// All certificates of a cluster, as they are on this host.
///
/// # Errors
/// [`crate::error::Kind::State`] where there is no such cluster.
pub fn list(store: &Store, name: &ProfileName) -> Result<Vec<Certificate>> {
    look(&Access::open(store, name)?)
}

/// As [`list`], of a cluster that is opened.
pub(crate) fn look(access: &Access) -> Result<Vec<Certificate>> {
    let spec = PkiSpec::of_first_node(OffsetDateTime::now_utc());
    let found = pki::survey(&access.dir.pki(), &spec)?;
    let row = |found: pki::Found| Certificate {
        name: found.name.stem(),
        subject: Some(found.subject).filter(|subject| !subject.is_empty()),
        authority: found.name.authority().map(CertName::stem),
        ends_at: found.ends.map(OffsetDateTime::unix_timestamp),
        days_left: found.ends.map(|end| (end - spec.now).whole_days()),
        renewal: found.fault,
    };
    Ok(found.into_iter().map(row).collect())
}

/// Makes these certificates anew, or all but the authorities where none is named. A cluster that
/// runs gets them at once: what uses them is restarted, and is healthy when this returns. Any
/// other gets them at its next start.
///
/// # Errors
/// [`crate::error::Kind::State`] where there is no such cluster or a key that cannot be replaced is lost, before
/// anything is changed; those of [`start::start`] where the cluster runs.
pub fn renew(
    store: &Store,
    name: &ProfileName,
    names: &[CertName],
    progress: &dyn Progress,
) -> Result<Renewal> {
    let lock = crate::cluster::lock(store, name, progress)?;
    let access = Access::open(store, name)?;
    let hypervisor = Libvirt::open(&access.profile.connect)?;
    let domain = hypervisor.find(&name.resource_name())?;
    let uuid = access.profile.uuid()?;
    let runs = domain.is_some_and(|d| d.uuid == uuid && d.state == State::Running);
    let leaves = CertName::ALL
        .into_iter()
        .filter(|n| n.authority().is_some());
    let names: Vec<CertName> = if names.is_empty() {
        leaves.collect()
    } else {
        names.to_vec()
    };
    let step = progress.step("Renew certificates");
    let pki = pki::renew(
        &access.dir.pki(),
        &PkiSpec::of_first_node(OffsetDateTime::now_utc()),
        &names,
    )?;
    let renewed: Vec<&'static str> = pki.changed().iter().map(|name| name.stem()).collect();
    step.done(renewed.join(", "));
    drop(lock);
    if runs {
        let options = StartOptions {
            keep_context: true,
            ..StartOptions::default()
        };
        start::start(store, name, &options, progress)?;
    } else {
        context::write(store, &access, &pki, true, progress)?;
        progress.note(&format!(
            "the cluster does not run; kubby start{} brings them into the node",
            name.flag()
        ));
    }
    Ok(Renewal {
        renewed,
        in_use: runs,
    })
}

/// Tells which certificates were renewed because of their age or faults; returns their names.
pub(crate) fn tell_renewed(pki: &Pki, progress: &dyn Progress) -> Vec<String> {
    let renewed = pki.renewed();
    if renewed.is_empty() {
        return Vec::new();
    }
    if renewed.iter().any(|r| r.reason == pki::NOT_YET_VALID) {
        progress.warn(
            "certificates were not valid yet by this host's clock, so they are made anew; \
             look whether it is right: date",
        );
    }
    let mut told: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for r in renewed {
        told.entry(r.reason).or_default().push(r.name.stem());
    }
    let told = told
        .iter()
        .map(|(why, names)| format!("{} ({why})", names.join(", ")));
    let told: Vec<String> = told.collect();
    progress.step("Renew certificates").done(told.join("; "));
    renewed.iter().map(|r| r.name.stem().to_owned()).collect()
}
