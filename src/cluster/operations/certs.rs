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
use crate::pki::{self, CertName, Found, Pki, PkiSpec};
use crate::profile::NodeProfile;
use crate::store::Store;

/// One row of `kubby certs list`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Certificate {
    /// Its file below the cluster's folder `pki`, without `.crt`; behind `NODE/` for one that a further
    /// node has of its own.
    pub name: String,
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
    pub renewed: Vec<String>,
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
    let now = OffsetDateTime::now_utc();
    let found = pki::survey(&cluster.dir.pki(), &PkiSpec::of_first_node(now))?;
    let mut all: Vec<Certificate> = found.into_iter().map(|found| row(found, "", now)).collect();
    all.extend(of_further_nodes(cluster)?);
    Ok(all)
}

/// Lists those that nodes other than the first have of their own.
pub(crate) fn of_further_nodes(cluster: &Cluster) -> Result<Vec<Certificate>> {
    let now = OffsetDateTime::now_utc();
    let mut all = Vec::new();
    for node in &cluster.profile.nodes[1..] {
        let (dir, of_node) = (cluster.dir.pki(), cluster.node_dir(node).pki());
        let found = pki::survey_node(&dir, &of_node, &spec_of(node, now))?;
        let prefix = format!("{}/", node.name);
        all.extend(found.into_iter().map(|found| row(found, &prefix, now)));
    }
    Ok(all)
}

fn spec_of(node: &NodeProfile, now: OffsetDateTime) -> PkiSpec {
    PkiSpec::of_node(&node.name, node.number, node.role, now)
}

fn row(found: Found, prefix: &str, now: OffsetDateTime) -> Certificate {
    Certificate {
        name: format!("{prefix}{}", found.name.stem()),
        subject: Some(found.subject).filter(|subject| !subject.is_empty()),
        authority: found.name.authority().map(CertName::stem),
        ends_at: found.ends.map(OffsetDateTime::unix_timestamp),
        days_left: found.ends.map(|end| (end - now).whole_days()),
        renewal: found.fault,
    }
}

/// Renews these certificates on all nodes, or all but the authorities where none is named. A cluster that
/// runs gets them at once: the programs that use them are restarted, and are healthy when this returns. Any
/// other cluster gets them at its next start.
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
    let now = OffsetDateTime::now_utc();
    let dir = cluster.dir.pki();
    let pki = pki::renew(&dir, &PkiSpec::of_first_node(now), &names)?;
    let mut renewed: Vec<String> = Vec::new();
    let mut add = |prefix: &str, pki: &Pki| {
        let changed = pki.changed().iter();
        renewed.extend(changed.map(|name| format!("{prefix}{}", name.stem())));
    };
    add("", &pki);
    for node in &cluster.profile.nodes[1..] {
        let of_node = cluster.node_dir(node).pki();
        let own = pki::renew_node(&dir, &pki, &of_node, &spec_of(node, now), &names)?;
        add(&format!("{}/", node.name), &own);
    }
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
