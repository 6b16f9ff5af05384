//! One file with what helps to find a fault, and without secrets: `kubby logs --bundle`, and what
//! a failed `kubby run` leaves.

mod archive;
mod host;
mod node;
mod objects;
mod parts;
mod redact;

use std::time::Duration;

use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::name::ProfileName;

pub(crate) use archive::check_destination;
use parts::Parts;
use redact::Redactor;

/// No part is begun after this time.
const LIMIT: Duration = Duration::from_secs(150);

/// The collected files.
pub(crate) struct Bundle {
    folder: String,
    /// The files' names and texts.
    pub files: Vec<(String, String)>,
    /// The parts that could not be collected, with the reasons.
    pub problems: Vec<String>,
}

/// Collects console, journals, events, objects and versions of a cluster in whatever state it is,
/// with the `failure` that it is about. It changes nothing and waits for no lock, so that it
/// can be used while another kubby hangs.
///
/// # Errors
/// [`crate::error::Kind::State`] where there is no such cluster, unless there is a failure to
/// report; [`crate::error::Kind::Interrupted`] on Ctrl-C. A part that cannot be collected is not an
/// error but a problem.
pub(crate) fn collect(
    env: &Env<'_>,
    name: &ProfileName,
    failure: Option<&Error>,
) -> Result<Bundle> {
    let cluster = match failure {
        None => Ok(Cluster::open(env.store, name)?),
        Some(_) => Cluster::open(env.store, name),
    };
    let step = env.progress.step("Collect logs");
    let mut parts = Parts::new(LIMIT, &step);
    let mut redactor = Redactor::new(&env.store.profile_dir(name));
    if let Some(failure) = failure {
        let text = crate::output::error_json(failure);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        parts.add("failure.json", Ok(value));
    }
    let profile = cluster.as_ref().ok().map(|cluster| &cluster.profile);
    let state = host::collect(env, name, profile, &mut parts);
    match &cluster {
        Ok(cluster) => {
            // Each waits for the node most of the time.
            let mut objects = parts.beside();
            std::thread::scope(|scope| {
                scope.spawn(|| objects::collect(env, cluster, state, &mut objects, &mut redactor));
                node::collect(env, cluster, state, &mut parts);
            });
            parts.append(objects);
        }
        Err(e) => parts.problem("profile.toml, node/ and cluster/", e),
    }
    // An interrupted request looks like a dead node.
    interrupt::check()?;
    let (files, problems) = parts.finish(&redactor);
    step.done(format!("{} files", files.len()));
    Ok(Bundle {
        folder: format!("kubby-{name}"),
        files,
        problems,
    })
}
