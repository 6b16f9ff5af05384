//! Waiting for Kubernetes from the host, with the reason when it does not come.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::addon::Rollouts;
use crate::api::{ApiClient, CONTROL_PLANE_LABEL, NodeStatus};
use crate::cluster::machine::watch::Watcher;
use crate::error::{Error, Kind, Result};
use crate::interrupt;
use crate::network::NODE_NAME;
use crate::progress::Step;
use crate::provision::{self, Unit};
use crate::remote::Remote;

/// The interval at which the API is asked: a fiftieth of the time so far, within these bounds. A
/// request costs an emulated node 10 to 20 ms of a processor, and a slow one has none to spare.
const ASK_EVERY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));

/// The interval at which the units are looked at over SSH: each look costs an emulated node CPU time.
const UNITS_EVERY: Duration = Duration::from_secs(15);

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
        ask: impl FnMut(&ApiClient) -> Result<Option<T>>,
    ) -> Result<T> {
        let what = format!("kube-apiserver {what}");
        self.until(&what, "kube-apiserver.service", step, ask)
    }

    /// Waits for the node's condition `Ready`, and gives it its role on the way.
    ///
    /// # Errors
    /// As [`Waiting::api`].
    pub(super) fn node_ready(&mut self, step: &Step) -> Result<NodeStatus> {
        self.until("the node is not Ready", "kubelet.service", step, |api| {
            let Some(node) = api.node(NODE_NAME)? else {
                return Err(Error::unhealthy("the kubelet has not registered the node"));
            };
            if !node.control_plane {
                // A kubelet cannot give itself this label: only the administrator can.
                let patch = json!({"metadata": {"labels": {CONTROL_PLANE_LABEL: ""}}});
                let labelled = api.merge_patch(&format!("/api/v1/nodes/{NODE_NAME}"), &patch)?;
                if !labelled.is_ok() {
                    return Ok(None);
                }
            }
            if node.ready {
                // After a restart the condition is still the old one for a while: only the kubelet itself
                // knows that it is back.
                return Ok(api.kubelet_healthy(NODE_NAME)?.then_some(node));
            }
            Err(Error::unhealthy(node.reason))
        })
    }

    /// Waits until pods are admitted, which shows that the controllers run.
    ///
    /// # Errors
    /// As [`Waiting::api`].
    pub(super) fn takes_pods(&mut self, step: &Step) -> Result<()> {
        let unit = "kube-controller-manager.service";
        self.until("the controllers are not ready", unit, step, |api| {
            Ok(api.takes_pods()?.then_some(()))
        })
    }

    /// Waits until everything that the add-ons brought is ready.
    ///
    /// # Errors
    /// As [`Waiting::api`], with what its pods say.
    pub(super) fn addons(&mut self, rollouts: &mut Rollouts, step: &Step) -> Result<()> {
        let began = Instant::now();
        let what = "the add-ons are not ready";
        let result = self.until(what, "kubelet.service", step, |api| {
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
        mut ask: impl FnMut(&ApiClient) -> Result<Option<T>>,
    ) -> Result<T> {
        let started = Instant::now();
        let mut units_looked = Instant::now();
        loop {
            let last = match ask(self.api) {
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
                let journal = provision::journal_tail(self.remote, unit, 25).unwrap_or_default();
                let error = Error::unhealthy(format!(
                    "{what} after {} s",
                    started.elapsed().as_secs()
                ))
                .with_detail(format!("the end of the journal of {unit}"), journal)
                .with_hint(
                    "kubby start waits again; --timeout gives it more time; kubby logs shows more",
                );
                return Err(match last {
                    Some(last) => error.with_source(last),
                    None => error,
                });
            }
            interrupt::sleep(ask_after(started.elapsed()))?;
        }
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
