//! The step that connects to a node over SSH, and gives a copy of a template its own identity if it did
//! not get it through the channel.

use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::cluster::env::{Backend, Env};
use crate::cluster::machine::keys;
use crate::cluster::machine::watch::Watcher;
use crate::cluster::saved::identity::{self, ATTEMPT};
use crate::cluster::start::context::{BOOT_LIMIT, COPY_LIMIT, Flow, Origin, Start};
use crate::error::{Error, Kind, Result};
use crate::hypervisor::console;
use crate::interrupt;
use crate::pki::Pki;
use crate::profile::NodeProfile;
use crate::progress::Step;
use crate::provision;
use crate::remote::{Remote, Target};
use crate::store::ProfileDir;

/// The pause between two attempts.
const RETRY: Duration = Duration::from_millis(50);

/// Connects to a node; a no-op for one that has its identity, which its health check looks at.
pub(super) fn run(start: &mut Start<'_>, node: usize) -> Result<Flow> {
    if start.nodes[node].identity_sent {
        return Ok(Flow::Next);
    }
    let origin = start.nodes[node].origin;
    let booted = origin == Origin::Booted;
    let step = start.env.progress.step(match booted {
        true => "Boot the node",
        false => "Connect to the node",
    });
    // A limit of the user's is for the attempts in full, and an error says how long they took.
    if booted && start.options.timeout.is_none() {
        start.nodes[node].watcher.before_ssh()?;
    }
    // A copy that does not answer soon is given up for a boot.
    let limit = start.limit(match origin {
        Origin::Copied => COPY_LIMIT,
        _ => BOOT_LIMIT,
    });
    start.pki(node)?;
    let pki = start.nodes[node].pki.clone();
    let connecting = Connecting {
        env: &start.env,
        cluster: &start.cluster,
        node: &start.cluster.profile.nodes[node],
        pki: &pki.ok_or_else(|| Error::internal("there are no certificates"))?,
    };
    let watcher = &mut start.nodes[node].watcher;
    let mut session = connecting.connect(watcher, &step, limit)?;
    // The clock of a machine that was paused or saved stood still, as that of a suspended host did.
    if !booted {
        identity::set_clock(session.as_mut())?;
    }
    start.nodes[node].session = Some(session);
    step.done("SSH answers");
    start.stage("boot");
    Ok(Flow::Next)
}

/// The surroundings of a connection to a node.
pub(super) struct Connecting<'a> {
    pub(super) env: &'a Env<'a>,
    pub(super) cluster: &'a Cluster,
    pub(super) node: &'a NodeProfile,
    pub(super) pki: &'a Pki,
}

impl Connecting<'_> {
    /// Waits until the node answers over SSH; a copy gets its own identity on the way.
    ///
    /// # Errors
    /// As [`Watcher::look`]; [`Kind::NodeUnreachable`] when `limit` has passed.
    pub(super) fn connect(
        &self,
        watcher: &mut Watcher<'_>,
        step: &Step,
        limit: Duration,
    ) -> Result<Box<dyn Remote>> {
        let own = self.cluster.target_of(self.node)?;
        let dir = self.cluster.node_dir(self.node);
        let borrowed = ProfileDir::at(dir.handover());
        if !borrowed.root().exists() {
            return self.connect_when_ready(&own, watcher, step, limit);
        }
        let original = self.cluster.target_with(self.node, &borrowed)?;
        // A node whose keys were written, but which was cut short before it had read its own.
        let between = Target {
            host_key: original.host_key.clone(),
            ..own.clone()
        };
        let attempt = self.cluster.deadline(ATTEMPT);
        let until = Instant::now() + limit;
        loop {
            for (target, has_own) in [(&original, false), (&own, true), (&between, false)] {
                match self.env.backend.connect(target, attempt) {
                    Ok(mut session) => {
                        session.set_target(&own);
                        if !has_own {
                            let mut files = keys::files(&dir)?.to_vec();
                            files.extend(provision::operator_files(self.pki));
                            identity::install(session.as_mut(), &files)?;
                        }
                        keys::end_handover(&dir)?;
                        watcher.reached();
                        return Ok(session);
                    }
                    Err(e) if e.kind() == Kind::Interrupted => return Err(e),
                    Err(e) if Instant::now() >= until => return Err(watcher.explain(e)),
                    Err(_) => {}
                }
            }
            watcher.look()?;
        }
    }

    /// Connects to a node, and sets the clock of one that did not boot: it stood still while the machine was
    /// paused or saved.
    ///
    /// # Errors
    /// As [`Connecting::connect`].
    pub(super) fn connect_after(
        &self,
        origin: Origin,
        watcher: &mut Watcher<'_>,
        step: &Step,
        limit: Duration,
    ) -> Result<Box<dyn Remote>> {
        if origin == Origin::Booted {
            watcher.before_ssh()?;
            return self.connect(watcher, step, limit);
        }
        let mut session = self.connect(watcher, step, limit)?;
        identity::set_clock(session.as_mut())?;
        Ok(session)
    }

    fn connect_when_ready(
        &self,
        target: &Target,
        watcher: &mut Watcher<'_>,
        step: &Step,
        limit: Duration,
    ) -> Result<Box<dyn Remote>> {
        let mut explained = false;
        let deadline = Instant::now() + limit;
        let backend = self.env.backend;
        let session = backend.connect_when_ready(target, deadline, &mut |_elapsed| {
            watcher.look().inspect_err(|_| explained = true)?;
            let tail = console::tail(&watcher.console_text(), 1);
            step.detail(tail.trim());
            Ok(())
        });
        match session {
            Ok(session) => {
                watcher.reached();
                Ok(session)
            }
            Err(e) if explained || e.kind() == Kind::Interrupted => Err(e),
            Err(e) => Err(watcher.explain(e)),
        }
    }

    /// Connects to a node that got its identity through the channel. Its SSH server may not have read
    /// its new keys yet.
    ///
    /// # Errors
    /// As [`Connecting::connect`].
    pub(super) fn connect_with_identity(
        &self,
        watcher: &mut Watcher<'_>,
        step: &Step,
        limit: Duration,
    ) -> Result<Box<dyn Remote>> {
        let attempt = self.cluster.deadline(ATTEMPT);
        let target = self.cluster.target_of(self.node)?;
        match when_keys_are_read(self.env.backend, &target, attempt) {
            Ok(session) => {
                keys::end_handover(&self.cluster.node_dir(self.node))?;
                watcher.reached();
                Ok(session)
            }
            Err(e) if e.kind() == Kind::Interrupted => Err(e),
            Err(_) => self.connect(watcher, step, limit),
        }
    }
}

/// Connects to a node whose SSH server may still be reading its new keys.
///
/// # Errors
/// [`Kind::NodeUnreachable`] when it does not answer with them within `limit`, [`Kind::Interrupted`] on
/// Ctrl-C.
pub(super) fn when_keys_are_read(
    backend: &dyn Backend,
    target: &Target,
    limit: Duration,
) -> Result<Box<dyn Remote>> {
    let until = Instant::now() + limit;
    loop {
        match backend.connect(target, limit) {
            Err(e) if e.kind() == Kind::Interrupted || Instant::now() >= until => return Err(e),
            Err(_) => interrupt::sleep(RETRY)?,
            connected => return connected,
        }
    }
}
