//! The step that opens the ports of Services.

use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::cluster::machine::host::Host;
use crate::cluster::machine::names::Names;
use crate::cluster::machine::ports;
use crate::cluster::start::context::{Flow, Start};
use crate::error::Result;
use crate::profile::Profile;
use crate::progress::Progress;
use crate::service::{self, Forwards, Reconciled};

/// Opens the ports of Services again, which a machine that was restarted has lost.
///
/// # Errors
/// [`crate::error::Kind::Unhealthy`] when kube-apiserver does not list the Services,
/// [`crate::error::Kind::Hypervisor`] when QEMU refuses.
pub(super) fn run(start: &mut Start<'_>) -> Result<Flow> {
    if start.cluster.profile.forwards.is_empty() {
        return Ok(Flow::Next);
    }
    let progress = start.env.progress;
    let step = progress.step("Open the ports of Services");
    let all = service::all(&start.api()?)?;
    let env = start.env;
    let done = changed(&env, &mut start.cluster, start.host, |f| f.reconcile(&all))?;
    if done == Reconciled::default() {
        step.skipped("they are open");
    } else {
        step.done(listing(&start.cluster.profile));
    }
    report(&done, progress);
    Ok(Flow::Next)
}

/// Changes the forwards of a cluster under the lock that keeps ports apart, and saves the result, also
/// when the change fails midforward.
///
/// # Errors
/// Those of `change`, and when the profile cannot be saved.
pub(crate) fn changed<T>(
    env: &Env<'_>,
    cluster: &mut Cluster,
    host: &Host<'_>,
    change: impl FnOnce(&mut Forwards<'_>) -> Result<T>,
) -> Result<T> {
    let _shared = env.lock_shared()?;
    let others = ports::of_others(env.store, cluster.name())?;
    let taken = others.into_iter().map(|(port, _)| port).collect();
    let before = cluster.profile.forwards.clone();
    let domain = Names::of(&cluster.profile.name).domain;
    let mut forwards = Forwards::new(&mut cluster.profile, host.libvirt(), &domain, taken)?;
    let result = change(&mut forwards);
    if cluster.profile.forwards != before {
        cluster.profile.save(&cluster.dir)?;
    }
    result
}

fn listing(profile: &Profile) -> String {
    let forwards = profile.forwards.iter();
    forwards
        .map(|f| format!("{}/{} at 127.0.0.1:{}", f.namespace, f.service, f.host))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Reports what [`Forwards::reconcile`] changed.
pub(crate) fn report(done: &Reconciled, progress: &dyn Progress) {
    for forward in &done.dropped {
        progress.note(&format!(
            "port {} is free again: the Service {}/{} that it led to is gone",
            forward.host, forward.namespace, forward.service
        ));
    }
    for (forward, old) in &done.moved {
        progress.warn(&format!(
            "port {old} is taken by another program; {}/{} is at 127.0.0.1:{} now",
            forward.namespace, forward.service, forward.host
        ));
    }
}
