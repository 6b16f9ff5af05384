//! Verifying a node that woke from saved memory. Nothing has to come up in it, so what is asked
//! through the API and what is looked at over SSH are asked at the same time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::addon::{self, Addon};
use crate::cluster::Access;
use crate::cluster::addons;
use crate::cluster::machine::resources::Names;
use crate::cluster::machine::watch::Watcher;
use crate::cluster::saved::identity;
use crate::cluster::start::prepare::Prepared;
use crate::cluster::start::wait::Waiting;
use crate::cluster::start::{Healthy, Start};
use crate::error::{Error, Kind, Result};
use crate::hypervisor::Hypervisor;
use crate::pki::Pki;
use crate::progress::{Progress, Step};
use crate::provision::{self, Wanted};
use crate::remote::{self, Output, Remote, Ssh, Target};
use crate::role::Role;
use crate::trace;

/// A node that is connected to when something has to be asked of it over SSH: only when a check
/// fails, for the journals.
struct WhenNeeded {
    target: Target,
    limit: Duration,
    ssh: Option<Ssh>,
}

impl Remote for WhenNeeded {
    fn exec(&mut self, command: &str, stdin: &[u8], limit: Option<Duration>) -> Result<Output> {
        // One that fails is made anew for whatever is asked next.
        let mut ssh = match self.ssh.take() {
            Some(ssh) => ssh,
            None => Ssh::connect(&self.target, self.limit)?,
        };
        let output = ssh.exec(command, stdin, limit)?;
        self.ssh = Some(ssh);
        Ok(output)
    }
}

impl Start<'_> {
    /// Verifies a node that woke and knows who it is. Nothing when something in it has to be
    /// changed: then it goes the way of every other start.
    pub(crate) fn awake(
        &self,
        hypervisor: &dyn Hypervisor,
        access: &Access,
        prepared: &Prepared,
        pki: &Pki,
        limit: Duration,
    ) -> Result<Option<Healthy>> {
        let wanted = self.plan(access, pki)?;
        let names = Names::new(self.store, &access.profile);
        let watcher = || Watcher::new(hypervisor, &access.profile, prepared.acceleration, &names);
        let progress = self.progress;
        // A node with other certificates than it should have may never answer as it should.
        let pointless = &AtomicBool::new(false);
        let (node, changed) = std::thread::scope(|scope| {
            let over_ssh = scope.spawn(|| {
                let _span = trace::span("look at the node over SSH");
                let changed = look(access, pki, &wanted, &mut watcher(), limit, progress);
                let good = changed.as_ref().is_ok_and(Vec::is_empty);
                pointless.store(!good, Ordering::Relaxed);
                changed
            });
            let node = self.ask(access, pki, &wanted, &mut watcher(), limit, pointless);
            let changed = over_ssh.join().unwrap_or_else(|_| {
                Err(Error::new(
                    Kind::Internal,
                    "looking at the node ended in a panic",
                ))
            });
            (node, changed)
        });
        self.stage("awake");
        // What is wrong in the node may be the reason for what the API says.
        if !changed?.is_empty() {
            return Ok(None);
        }
        Ok(Some(Healthy {
            node_version: node?,
            changed: Vec::new(),
        }))
    }

    /// What is asked through the API: the same as at every start.
    fn ask(
        &self,
        access: &Access,
        pki: &Pki,
        wanted: &Wanted,
        watcher: &mut Watcher<'_>,
        limit: Duration,
        pointless: &AtomicBool,
    ) -> Result<String> {
        let api = access.api_with(pki)?;
        let mut remote = WhenNeeded {
            target: access.target()?,
            limit,
            ssh: None,
        };
        let mut waiting = Waiting {
            api: &api,
            remote: &mut remote,
            units: &wanted.units,
            watcher,
            deadline: Instant::now() + limit,
            pointless: Some(pointless),
        };
        // It does not boot: with nothing to do it rests, and says nothing on its console.
        waiting.watcher.reached();
        let addons = addons::enabled(&access.profile, &access.dir)?;
        let step = self.progress.step("Ask the cluster");
        let answer = all_ready(&mut waiting, &addons, &step);
        match &answer {
            Ok(_) => step.done("Ready"),
            Err(_) if pointless.load(Ordering::Relaxed) => step.skipped("it is asked again later"),
            Err(_) => drop(step),
        }
        answer
    }
}

/// Waits for all that has to be ready; returns the kubelet's version.
fn all_ready(waiting: &mut Waiting<'_, '_>, addons: &[Addon], step: &Step) -> Result<String> {
    waiting.api_ready(step)?;
    waiting.operator_known(step)?;
    // Their objects are those that were saved with the memory; whether they work is asked.
    let node = waiting.node_ready(step)?;
    waiting.takes_pods(step)?;
    let mut rollouts = addon::Rollouts::of(addons);
    waiting.addons(&mut rollouts, step)?;
    Ok(node.kubelet_version)
}

/// What is looked at over SSH: files and processes. Returns what has to be changed.
fn look(
    access: &Access,
    pki: &Pki,
    wanted: &Wanted,
    watcher: &mut Watcher<'_>,
    limit: Duration,
    progress: &dyn Progress,
) -> Result<Vec<String>> {
    let step = progress.step("Look at the node");
    let mut ssh = identity::connect_introduced(access, pki, watcher, limit, &step)?;
    let span = trace::span("compare the files");
    let changed = remote::changed(&mut ssh, &wanted.files, &wanted.optional)?;
    drop(span);
    if changed.is_empty() {
        provision::verify(&mut ssh, Role::ControlPlane)?;
        step.done("as it should be");
    } else {
        step.skipped("something has to be put right");
    }
    let paths = changed.into_iter().map(|i| wanted.files[i].path.clone());
    Ok(paths.collect())
}
