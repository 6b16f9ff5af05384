//! The last step of a start that boots: from a node that is configured to a cluster that is healthy.

use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::addon::{self, Addon};
use crate::cluster::Access;
use crate::cluster::addons;
use crate::cluster::machine::watch::Watcher;
use crate::cluster::start::Start;
use crate::cluster::start::addon_images::Loading;
use crate::cluster::start::wait::Waiting;
use crate::error::Result;
use crate::interrupt;
use crate::provision;
use crate::remote::Ssh;
use crate::role::Role;

/// How often systemd is asked whether restarts are through.
const SETTLE_EVERY: Duration = Duration::from_secs(1);

impl Start<'_> {
    /// Waits until units that were told to restart have done so: until then what answers may be a
    /// process that is about to end. One that cannot is found out by what is waited for next, which
    /// knows more to say.
    pub(crate) fn settle(
        &self,
        ssh: &mut Ssh,
        wanted: &provision::Wanted,
        restarted: &[String],
        watcher: &mut Watcher<'_>,
        limit: Duration,
    ) -> Result<()> {
        if restarted.is_empty() {
            return Ok(());
        }
        let step = self.progress.step("Restart what has other files now");
        let deadline = Instant::now() + limit;
        loop {
            if provision::settled(ssh, restarted)? {
                step.done(restarted.join(", "));
                return Ok(());
            }
            if Instant::now() > deadline || provision::crash_looping(ssh, &wanted.units)?.is_some()
            {
                step.skipped("not through yet");
                return Ok(());
            }
            watcher.look()?;
            interrupt::sleep(SETTLE_EVERY)?;
        }
    }

    /// Waits until everything is at work and verified; returns the kubelet's version. A node that
    /// has `booted` has to bring its pods back: what the API says of them may be of before.
    pub(crate) fn healthy(
        &self,
        access: &Access,
        waiting: &mut Waiting<'_, '_>,
        booted: Option<OffsetDateTime>,
        loading: Loading,
    ) -> Result<String> {
        let api = waiting.api;
        let step = self.progress.step("Wait for the API");
        waiting.api_takes_objects(&step)?;
        step.done("it takes objects");
        self.stage("api");
        // The controllers take seconds until they ask for anything, and then give up on an API that
        // is not ready within ten seconds. One that has its roles already is about to be; another
        // makes them first.
        let has_roles = api.nearly_ready().unwrap_or(false);
        if has_roles {
            provision::start_all(waiting.remote)?;
        }
        // Not only when it is ready: it takes objects while it makes its own, and the controllers
        // find them there.
        let addons = addons::enabled(&access.profile, &access.dir)?;
        let all: Vec<&Addon> = addons.iter().collect();
        let rollouts = || addon::Rollouts::of(all.iter().copied());
        let step = self.progress.step("Apply the add-ons");
        // Images first: a pod whose image is not there yet is tried again only after a while. Where
        // all was at work once, even before this boot, they are there.
        if !rollouts().look(api).unwrap_or(false) {
            step.detail("importing images");
            addons::import(waiting.remote, &all)?;
            self.stage("images");
        }
        step.detail("applying manifests");
        let flag = access.profile.name.flag();
        let apply = |some: &[&Addon]| {
            addons::apply(api, some, false, waiting.deadline, &flag, self.progress)
        };
        // Those whose images may not be there yet last; the others need not wait for them.
        let (own, others): (Vec<_>, Vec<_>) = all.iter().partition(|a| a.folder.is_some());
        apply(&others)?;
        loading.end(self.progress)?;
        apply(&own)?;
        for name in &self.options.no_addons {
            addon::remove(api, name, waiting.deadline)?;
            addon::forget(&access.dir, name)?;
        }
        step.done(access.profile.addons.join(", "));
        self.stage("addons");
        let step = self.progress.step("Wait for the API to be ready");
        if !has_roles {
            waiting.api_nearly_ready(&step)?;
            provision::start_all(waiting.remote)?;
        }
        waiting.api_ready(&step)?;
        step.done("");
        self.stage("ready");
        let step = self.progress.step("Wait for the node");
        let node = waiting.node_ready(&step)?;
        step.done("Ready");
        self.stage("node");
        let step = self.progress.step("Wait for the controllers");
        waiting.takes_pods(&step)?;
        step.done("pods are admitted");
        self.stage("controllers");
        let step = self.progress.step("Wait for the add-ons");
        waiting.addons(&mut rollouts().since(booted), &step)?;
        step.done("at work");
        self.stage("rollouts");
        let step = self.progress.step("Verify the processes");
        provision::verify(waiting.remote, Role::ControlPlane)?;
        step.done(format!(
            "{} run",
            provision::processes(Role::ControlPlane).len()
        ));
        Ok(node.kubelet_version)
    }
}
