//! Waiting for Kubernetes from the host, with the reason when it does not come.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::addon::Rollouts;
use crate::api::{self, ApiClient, NodeStatus};
use crate::cluster::env::Backend;
use crate::cluster::machine::watch::Watcher;
use crate::error::{Error, Kind, Result};
use crate::interrupt;
use crate::profile::NodeProfile;
use crate::progress::Step;
use crate::provision::{self, Unit};
use crate::remote::{Output, Remote, Target};

/// The interval at which the API is asked: a fiftieth of the time so far, within these bounds. A
/// request costs an emulated node 10 to 20 ms of a processor, and a slow one has none to spare.
const ASK_EVERY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));

/// The interval at which the units are looked at over SSH: each look costs an emulated node CPU time.
const UNITS_EVERY: Duration = Duration::from_secs(15);

/// The reason of a node that is not Ready for want of a network plugin.
const NO_NETWORK: &str = "NetworkPluginNotReady";

/// The surroundings of a wait.
pub(super) struct Waiting<'a, 'w> {
    /// The API as the operator.
    pub api: &'a ApiClient,
    /// A session in the node, for journals.
    pub remote: &'a mut dyn Remote,
    /// kubby's units in the node.
    pub units: &'a [Unit],
    /// The console and the domain.
    pub watcher: &'a mut Watcher<'w>,
    /// The end of the wait.
    pub deadline: Instant,
    /// Nodes need not be Ready: nothing gives pods a network yet.
    pub without_network: bool,
    /// Cancels the wait; set by the SSH check of a resumed node, which runs in parallel.
    pub cancel: Option<&'a AtomicBool>,
}

impl Waiting<'_, '_> {
    /// Waits for kube-apiserver; `what` completes the error about it.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] with the last reason and a journal when the deadline passes or a unit
    /// fails again and again.
    pub(super) fn api<T>(
        &mut self,
        what: &str,
        step: &Step,
        mut ask: impl FnMut(&ApiClient) -> Result<Option<T>>,
    ) -> Result<T> {
        let what = format!("kube-apiserver {what}");
        self.until(&what, "kube-apiserver.service", step, |api, _| ask(api))
    }

    /// Creates the Node object of a node whose kubelet has not begun yet, and which need not wait for it then.
    ///
    /// # Errors
    /// As [`Waiting::api`].
    pub(super) fn register(&mut self, node: &NodeProfile, step: &Step) -> Result<()> {
        let what = format!("does not take the node `{}`", node.name);
        self.api(&what, step, |api| register(api, node).map(Some))
    }

    /// Waits for a node's condition `Ready`, and gives it its role and the addresses of its pods on the
    /// way.
    ///
    /// # Errors
    /// As [`Waiting::api`].
    pub(super) fn node_ready(&mut self, node: &NodeProfile, step: &Step) -> Result<NodeStatus> {
        let (name, label) = (&node.name, api::role_label(node.role));
        let what = format!("the node `{name}` is not Ready");
        let without_network = self.without_network;
        self.until(&what, "kubelet.service", step, |api, _| {
            let Some(status) = api.node(name)? else {
                return Err(Error::unhealthy("the kubelet has not registered the node"));
            };
            if !status.labels.contains(&label) || status.pods.is_none() {
                let patched = api.merge_patch(&node_path(name), &node_settings(node))?;
                if !patched.is_ok() {
                    return Ok(None);
                }
            }
            // The kubelet itself is well then.
            let lacks_network = without_network && status.reason.contains(NO_NETWORK);
            if status.ready || lacks_network {
                // After a restart the condition is still the old one for a while: only the kubelet itself
                // knows that it is back.
                return Ok(api.kubelet_healthy(name)?.then_some(status));
            }
            Err(Error::unhealthy(status.reason))
        })
    }

    /// Waits until pods are admitted, which shows that the controllers of a new cluster run, and until these programs
    /// say that they are healthy: what they did before a boot is still there.
    ///
    /// # Errors
    /// As [`Waiting::api`].
    pub(super) fn controllers(&mut self, programs: &[&str], step: &Step) -> Result<()> {
        let unit = "kube-controller-manager.service";
        self.until("the controllers are not ready", unit, step, |api, _| {
            Ok(api.takes_pods()?.then_some(()))
        })?;
        for program in programs {
            let (what, unit) = (
                format!("{program} is not healthy"),
                format!("{program}.service"),
            );
            self.until(&what, &unit, step, |_, remote| {
                provision::is_healthy(remote, program).map(|healthy| healthy.then_some(()))
            })?;
        }
        Ok(())
    }

    /// Waits until everything that the add-ons brought is ready.
    ///
    /// # Errors
    /// As [`Waiting::api`], with what its pods say.
    pub(super) fn addons(&mut self, rollouts: &mut Rollouts, step: &Step) -> Result<()> {
        let began = Instant::now();
        let what = "the add-ons are not ready";
        let result = self.until(what, "kubelet.service", step, |api, _| {
            let done = rollouts.look(api)?;
            step.detail(&rollouts.summary());
            Ok(done.then_some(()))
        });
        match result {
            Err(e) if e.kind() == Kind::Unhealthy && Instant::now() > self.deadline => {
                Err(rollouts
                    .overdue(self.api, began.elapsed().as_secs())
                    .with_source(e))
            }
            result => result,
        }
    }

    fn until<T>(
        &mut self,
        what: &str,
        unit: &str,
        step: &Step,
        mut ask: impl FnMut(&ApiClient, &mut dyn Remote) -> Result<Option<T>>,
    ) -> Result<T> {
        let started = Instant::now();
        let mut units_looked = Instant::now();
        loop {
            let last = match ask(self.api, self.remote) {
                Ok(Some(value)) => return Ok(value),
                Ok(None) => None,
                Err(e) => Some(e),
            };
            if let Some(error) = &last {
                let cause = error.causes().pop();
                step.detail(cause.as_deref().unwrap_or(error.message()));
            }
            self.watcher.look()?;
            if self.cancel.is_some_and(|p| p.load(Ordering::Relaxed)) {
                return Err(Error::unhealthy(format!("{what} yet")));
            }
            if units_looked.elapsed() > UNITS_EVERY {
                look_at_units(self.remote, self.units, self.cancel.is_some())?;
                units_looked = Instant::now();
            }
            if Instant::now() > self.deadline {
                let what = format!("{what} after {} s", started.elapsed().as_secs());
                return Err(self.overdue(what, unit, last));
            }
            interrupt::sleep(ask_after(started.elapsed()))?;
        }
    }

    /// Returns the error for something that does not come, with what the node says about it.
    fn overdue(&mut self, what: String, unit: &str, last: Option<Error>) -> Error {
        let mut error = Error::unhealthy(what);
        let reason = last.as_ref().map(Error::message).unwrap_or_default();
        if reason.contains(NO_NETWORK) {
            // The kubelet says only that there is none.
            let said = provision::network_faults(self.remote).unwrap_or_default();
            error = error.with_detail("what containerd says about networks", said);
        }
        let journal = provision::journal_tail(self.remote, unit, 25).unwrap_or_default();
        let error = error
            .with_detail(format!("the end of the journal of {unit}"), journal)
            .with_hint(
                "kubby start waits again; --timeout gives it more time; kubby logs shows more",
            );
        match last {
            Some(last) => error.with_source(last),
            None => error,
        }
    }
}

/// An SSH session that is opened when something is asked over it, which is only after a failed check, for
/// the journals.
pub(super) struct OnDemand<'a> {
    backend: &'a dyn Backend,
    target: Target,
    limit: Duration,
    session: Option<Box<dyn Remote>>,
}

impl<'a> OnDemand<'a> {
    /// Returns a session with this target that connects within `limit`.
    pub(super) fn new(backend: &'a dyn Backend, target: Target, limit: Duration) -> Self {
        OnDemand {
            backend,
            target,
            limit,
            session: None,
        }
    }
}

impl Remote for OnDemand<'_> {
    fn exec(&mut self, command: &str, stdin: &[u8], limit: Option<Duration>) -> Result<Output> {
        // A session that fails is replaced by a new one for the next command.
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.backend.connect(&self.target, self.limit)?,
        };
        let output = session.exec(command, stdin, limit)?;
        self.session = Some(session);
        Ok(output)
    }
}

fn node_path(name: &str) -> String {
    format!("/api/v1/nodes/{name}")
}

/// Returns the parts of a Node object that the administrator sets: a kubelet cannot give itself its role.
fn node_settings(node: &NodeProfile) -> Value {
    let pods = node.addresses().pods.to_string();
    json!({
        "metadata": {"labels": {api::role_label(node.role): ""}},
        "spec": {"podCIDR": pods, "podCIDRs": [pods]},
    })
}

/// Creates a Node object unless there is one.
fn register(api: &ApiClient, node: &NodeProfile) -> Result<()> {
    if api.node(&node.name)?.is_some() {
        return Ok(());
    }
    let mut object = node_settings(node);
    object["apiVersion"] = "v1".into();
    object["kind"] = "Node".into();
    object["metadata"]["name"] = node.name.as_str().into();
    let answer = api.apply(&node_path(&node.name), &object, false)?;
    match answer.is_ok() {
        true => Ok(()),
        false => answer.require_json("creating the Node object").map(drop),
    }
}

/// Fails for a unit that fails again and again, since it will not become ready. With `parallel` another
/// check of the node runs at the same time.
fn look_at_units(remote: &mut dyn Remote, units: &[Unit], parallel: bool) -> Result<()> {
    let (unit, journal) = match provision::crash_looping(remote, units) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(()),
        // A busy node accepts no login for a while, and may still be in time. The other check reports
        // a node that cannot be reached at all.
        Err(e) if parallel && e.kind() == Kind::NodeUnreachable => return Ok(()),
        Err(e) => return Err(e),
    };
    Err(
        Error::unhealthy(format!("{unit} fails again and again in the node"))
            .with_detail(format!("the end of the journal of {unit}"), journal)
            .with_hint(format!("kubby ssh -- systemctl status {unit}")),
    )
}

/// Returns the pause before the next request.
fn ask_after(waited: Duration) -> Duration {
    (waited / 50).clamp(ASK_EVERY.0, ASK_EVERY.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::Output;

    /// A node that gives one answer to all commands, or accepts no connection.
    struct Node(Option<&'static str>);

    impl Remote for Node {
        fn exec(&mut self, _: &str, _: &[u8], _: Option<Duration>) -> Result<Output> {
            let answer = self
                .0
                .ok_or_else(|| Error::unreachable("no answer to the key exchange"))?;
            Ok(Output {
                status: 0,
                stdout: answer.into(),
                stderr: Vec::new(),
            })
        }
    }

    #[test]
    fn a_node_that_lets_nobody_in_may_still_be_in_time() {
        let look = |answer, others| look_at_units(&mut Node(answer), &[], others);
        look(None, true).unwrap();
        assert_eq!(look(None, false).unwrap_err().kind(), Kind::NodeUnreachable);
        let fails = "Id=etcd.service\nActiveState=activating\nNRestarts=9\n";
        for others in [true, false] {
            look(
                Some("Id=etcd.service\nActiveState=active\nNRestarts=9\n"),
                others,
            )
            .unwrap();
            let error = look(Some(fails), others).unwrap_err();
            assert_eq!(error.kind(), Kind::Unhealthy);
            assert!(
                error.message().contains("etcd.service fails again"),
                "{error}"
            );
        }
    }

    #[test]
    fn who_waits_longer_asks_less_often() {
        let after = |seconds| ask_after(Duration::from_secs(seconds));
        assert_eq!(after(0), ASK_EVERY.0);
        assert_eq!(after(10), ASK_EVERY.0);
        assert_eq!(after(25), Duration::from_millis(500));
        assert_eq!(after(600), ASK_EVERY.1);
    }
}
