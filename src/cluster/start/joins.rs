//! The joining of nodes to the first one, in parallel.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::addon::Addon;
use crate::api::ApiClient;
use crate::cluster::Cluster;
use crate::cluster::addons;
use crate::cluster::env::Env;
use crate::cluster::machine::watch::Watcher;
use crate::cluster::start::connect::Connecting;
use crate::cluster::start::context::{
    BOOT_LIMIT, COPY_LIMIT, HEALTH_LIMIT, NodeStart, Origin, Start,
};
use crate::cluster::start::members;
use crate::cluster::start::wait::{OnDemand, Waiting};
use crate::error::{Error, Kind, Result};
use crate::parallel;
use crate::pki::Pki;
use crate::profile::NodeProfile;
use crate::progress::Step;
use crate::provision::{self, Wanted};
use crate::remote::Remote;
use crate::role::Role;
use crate::trace;

/// Records how joining has ended; returns the errors.
///
/// # Errors
/// [`Kind::Interrupted`]: what the user stopped is not tried again, whatever the others say.
pub(super) fn record(start: &mut Start<'_>, results: Vec<Joined>) -> Result<Vec<(usize, Error)>> {
    let mut failed = Vec::new();
    for (index, result) in results {
        match result {
            Ok(changed) => {
                start.changed.extend(changed);
                start.nodes[index].joined = true;
            }
            Err(e) if e.kind() == Kind::Interrupted => return Err(e),
            Err(e) => failed.push((index, e)),
        }
    }
    Ok(failed)
}

/// The index of a node with the files that were written in it, or why it has not joined.
pub(super) type Joined = (usize, Result<Vec<String>>);

/// The joining of nodes, in parallel.
pub(super) struct Joins<'a> {
    env: Env<'a>,
    cluster: Cluster,
    addons: Vec<Addon>,
    /// Add-ons are new in the cluster, so that the nodes may lack their images.
    brings_addons: bool,
    nodes: Vec<Join>,
    /// Ends the waits of nodes that resumed.
    pub(super) cancel: AtomicBool,
}

/// The joining of one node.
struct Join {
    index: usize,
    wanted: Arc<Wanted>,
    pki: Pki,
    api: ApiClient,
    /// Its own kube-apiserver; a worker has none.
    own_api: Option<ApiClient>,
    /// Its memory is that of a node that had joined.
    resumed: bool,
    /// See [`Waiting::without_network`].
    without_network: bool,
    connect_limit: Duration,
    deadline: Instant,
}

impl Join {
    /// Returns what is needed to wait for the node.
    fn waiting<'j, 'w>(
        &'j self,
        remote: &'j mut dyn Remote,
        watcher: &'j mut Watcher<'w>,
        cancel: Option<&'j AtomicBool>,
    ) -> Waiting<'j, 'w> {
        Waiting {
            api: &self.api,
            remote,
            units: &self.wanted.units,
            watcher,
            deadline: self.deadline,
            without_network: self.without_network,
            cancel,
        }
    }

    /// Waits until the node is ready, and its own kube-apiserver if it has one.
    fn ready(
        &self,
        remote: &mut dyn Remote,
        watcher: &mut Watcher<'_>,
        cancel: Option<&AtomicBool>,
        node: &NodeProfile,
        step: &Step,
    ) -> Result<()> {
        let mut waiting = self.waiting(remote, watcher, cancel);
        waiting.node_ready(node, step)?;
        match &self.own_api {
            // The roles that it still looks at are those that the first has made.
            Some(own) => waiting.api("is not ready", step, |_| own.takes_objects().map(Some)),
            None => Ok(()),
        }
    }
}

impl<'a> Joins<'a> {
    /// Gathers what the joining of these nodes needs.
    ///
    /// # Errors
    /// As [`Start::plan`].
    pub(super) fn prepare(start: &mut Start<'a>, nodes: &[usize]) -> Result<Self> {
        let whole = start.nodes[0].origin == Origin::Copied;
        let mut all = Vec::new();
        for index in nodes.iter().copied() {
            let state = &start.nodes[index];
            let (origin, sent) = (state.origin, state.identity_sent);
            let wanted = start.plan(index)?;
            let pki = start.known_pki_of(index)?.clone();
            let renewed = !pki.changed().is_empty();
            let node = start.profile_of(index);
            let own_api = (node.role == Role::ControlPlane)
                .then(|| start.cluster.api_of(start.env.backend, node))
                .transpose()?;
            let connect_limit = start.limit(match origin {
                Origin::Copied => COPY_LIMIT,
                _ => BOOT_LIMIT,
            });
            all.push(Join {
                index,
                wanted,
                pki,
                api: start.api()?,
                own_api,
                // The images of a user's plugin come to the nodes that have joined.
                without_network: !start.cluster.profile.spec.cni.is_own(),
                resumed: sent && !renewed && (whole || origin == Origin::Resumed),
                connect_limit,
                deadline: Instant::now() + connect_limit + start.limit(HEALTH_LIMIT),
            });
        }
        Ok(Joins {
            env: start.env,
            addons: addons::enabled(&start.cluster.profile, &start.cluster.dir)?,
            brings_addons: !start.options.cluster.addon.is_empty(),
            cluster: start.cluster.clone(),
            nodes: all,
            cancel: AtomicBool::new(false),
        })
    }

    /// Joins them; `states` are those of all nodes but the first.
    pub(super) fn run(&self, states: &mut [NodeStart<'_>]) -> Vec<Joined> {
        let join_of = |index| self.nodes.iter().find(|join| join.index == index);
        let states = states.iter_mut().zip(1..);
        let (joins, states): (Vec<&Join>, Vec<_>) = states
            .filter_map(|(state, index)| Some((join_of(index)?, state)))
            .unzip();
        let results = parallel::each(
            joins.iter().zip(states),
            "joining a node",
            |(join, state)| self.join(join, state),
        );
        joins.iter().map(|join| join.index).zip(results).collect()
    }

    /// Joins one node; returns the files that were written.
    fn join(&self, join: &Join, state: &mut NodeStart<'_>) -> Result<Vec<String>> {
        let node = &self.cluster.profile.nodes[join.index];
        let _span = trace::span(format!("join {}", node.name));
        let step = self
            .env
            .progress
            .step(&format!("Start the node {}", node.name));
        if join.resumed {
            return self.look(join, state, step);
        }
        step.detail("connecting");
        let mut session = self.connect(join, state, &step)?;
        let changed = self.configure(join, state, session.as_mut(), &step)?;
        join.ready(session.as_mut(), &mut state.watcher, None, node, &step)?;
        // The kubelet begins sooner without the others beside it.
        provision::start_all(session.as_mut())?;
        provision::verify(session.as_mut(), node.role)?;
        if state.origin == Origin::Booted {
            state.booted = Some(provision::booted_at(session.as_mut())?);
        }
        state.compared = true;
        state.session = Some(session);
        step.done("Ready");
        Ok(changed)
    }

    /// Checks a node that continues where its memory was saved, and has its identity: its SSH server has
    /// read its keys, and the API says that it is back. Its files are what they were then; it joins again
    /// where those of the first node have to be changed, or where its links have faults.
    fn look(&self, join: &Join, state: &mut NodeStart<'_>, step: Step) -> Result<Vec<String>> {
        let node = &self.cluster.profile.nodes[join.index];
        let (connecting, limit) = (self.connecting(join), join.connect_limit);
        let mut session = connecting.connect_with_identity(&mut state.watcher, &step, limit)?;
        if provision::has_line_fault(session.as_mut())? {
            return Err(Error::unhealthy("its links have faults"));
        }
        let (watcher, cancel) = (&mut state.watcher, Some(&self.cancel));
        join.ready(session.as_mut(), watcher, cancel, node, &step)?;
        state.session = Some(session);
        step.done("Ready");
        Ok(Vec::new())
    }

    fn connecting<'j>(&'j self, join: &'j Join) -> Connecting<'j> {
        Connecting {
            env: &self.env,
            cluster: &self.cluster,
            node: &self.cluster.profile.nodes[join.index],
            pki: &join.pki,
        }
    }

    fn connect(
        &self,
        join: &Join,
        state: &mut NodeStart<'_>,
        step: &Step,
    ) -> Result<Box<dyn Remote>> {
        match state.session.take() {
            Some(session) => Ok(session),
            None => self.connecting(join).connect_after(
                state.origin,
                &mut state.watcher,
                step,
                join.connect_limit,
            ),
        }
    }

    fn configure(
        &self,
        join: &Join,
        state: &mut NodeStart<'_>,
        session: &mut dyn Remote,
        step: &Step,
    ) -> Result<Vec<String>> {
        step.detail("configuring");
        let node = &self.cluster.profile.nodes[join.index];
        join.waiting(session, &mut state.watcher, None)
            .register(node, step)?;
        let changed = match node.role {
            Role::Worker => provision::apply(session, &join.wanted)?.changed,
            Role::ControlPlane => self.configure_member(join, state, session, step)?,
        };
        let is_new = !provision::are_links(&changed) && state.origin != Origin::Copied;
        if self.brings_addons || is_new {
            let all: Vec<&Addon> = self.addons.iter().collect();
            addons::import(session, &all)?;
        }
        Ok(changed)
    }

    /// Configures a control plane, whose etcd becomes a member on the way; returns the files that were written.
    fn configure_member(
        &self,
        join: &Join,
        state: &mut NodeStart<'_>,
        session: &mut dyn Remote,
        step: &Step,
    ) -> Result<Vec<String>> {
        let profile = &self.cluster.profile;
        let node = profile.nodes[join.index].addresses();
        let limit = join.deadline.saturating_duration_since(Instant::now());
        let first = &mut OnDemand::new(self.env.backend, self.cluster.target()?, limit);
        let is_learner = members::admit(first, &profile.first().addresses(), session, &node)?;
        let changed = provision::apply(session, &join.wanted)?.changed;
        if is_learner {
            members::promote(first, &node, &mut state.watcher, step, join.deadline)?;
        }
        provision::serve(session)?;
        Ok(changed)
    }
}
