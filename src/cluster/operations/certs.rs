//! `kubby certs`: listing and renewing the certificates of a cluster.

use serde::Serialize;
use time::OffsetDateTime;

use crate::cluster::Cluster;
use crate::cluster::context;
use crate::cluster::env::Env;
use crate::cluster::machine::Machine;
use crate::cluster::machine::host::Host;
use crate::cluster::spec::StartOptions;
use crate::cluster::start;
use crate::error::Result;
use crate::hypervisor::State;
use crate::name::ProfileName;
use crate::pki::{self, CertName, PkiSpec};
use crate::store::Store;

/// One row of `kubby certs list`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Certificate {
    /// Its file below the cluster's folder `pki`, without `.crt`.
    pub name: &'static str,
    /// Its subject; absent where it is missing or damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The name of the authority that signs it; absent for an authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<&'static str>,
    /// Its end, seconds since 1970; absent where it is missing or damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<i64>,
    /// Whole days until then; negative when it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub days_left: Option<i64>,
    /// The reason why the next start renews it; absent when it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renewal: Option<&'static str>,
}

/// The result of `kubby certs renew`.
#[derive(Debug, Clone)]
pub(crate) struct Renewal {
    /// The certificates that were renewed.
    pub renewed: Vec<&'static str>,
    /// The node has them; if not, the next start brings them there.
    pub in_use: bool,
}

/// Lists all certificates of a cluster, as they are on this host.
///
/// # Errors
/// [`crate::error::Kind::State`] where there is no such cluster.
pub(crate) fn list(store: &Store, name: &ProfileName) -> Result<Vec<Certificate>> {
    look(&Cluster::open(store, name)?)
}

/// Lists them for a cluster that is open already.
pub(crate) fn look(cluster: &Cluster) -> Result<Vec<Certificate>> {
    let spec = PkiSpec::of_first_node(OffsetDateTime::now_utc());
    let found = pki::survey(&cluster.dir.pki(), &spec)?;
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

/// Renews these certificates, or all but the authorities where none is named. A cluster that runs gets
/// them at once: the programs that use them are restarted, and are healthy when this returns. Any other
/// cluster gets them at its next start.
///
/// # Errors
/// [`crate::error::Kind::State`] where there is no such cluster or a key that cannot be replaced is lost, before
/// anything is changed; those of [`start::start`] where the cluster runs.
pub(crate) fn renew(env: &Env<'_>, name: &ProfileName, names: &[CertName]) -> Result<Renewal> {
    let (cluster, lock) = Cluster::open_locked(env, name)?;
    let host = Host::open(env, &cluster.profile.connect)?;
    let runs = Machine::of(&host, &cluster.profile)?.state()? == State::Running;
    let leaves = CertName::ALL
        .into_iter()
        .filter(|n| n.authority().is_some());
    let names: Vec<CertName> = if names.is_empty() {
        leaves.collect()
    } else {
        names.to_vec()
    };
    let step = env.progress.step("Renew certificates");
    let spec = PkiSpec::of_first_node(OffsetDateTime::now_utc());
    let pki = pki::renew(&cluster.dir.pki(), &spec, &names)?;
    let renewed: Vec<&'static str> = pki.changed().iter().map(|name| name.stem()).collect();
    step.done(renewed.join(", "));
    drop(lock);
    if runs {
        let options = StartOptions {
            keep_context: true,
            ..StartOptions::default()
        };
        start::start(env, name, &options)?;
    } else {
        context::write(env, &cluster, &pki, true)?;
        env.progress.note(&format!(
            "the cluster is not running; kubby start{} installs them in the node",
            name.flag()
        ));
    }
    Ok(Renewal {
        renewed,
        in_use: runs,
    })
}
