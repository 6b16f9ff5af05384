//! The step that makes machines nodes of the cluster: control planes one after the other, since etcd takes one
//! new member at a time, then all workers at the same time.
//!
//! A machine that a worker boots belongs to no cluster at first, and is saved as a template before it
//! joins: the other new workers are copies of it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::addon::{Addon, Rollouts};
use crate::api::ApiClient;
use crate::cluster::Cluster;
use crate::cluster::addons;
use crate::cluster::env::Env;
use crate::cluster::machine::watch::Watcher;
use crate::cluster::start::connect::Connecting;
use crate::cluster::start::context::{
    BOOT_LIMIT, COPY_LIMIT, Flow, HEALTH_LIMIT, NodeStart, Origin, Start,
};
use crate::cluster::start::wait::{OnDemand, Waiting};
use crate::cluster::start::{
    identity as send_identity, machines, members, node_images, retry, template,
};
use crate::error::{Error, Kind, Result};
use crate::parallel;
use crate::pki::Pki;
use crate::profile::NodeProfile;
use crate::progress::Step;
use crate::provision::{self, Wanted};
use crate::remote::Remote;
use crate::role::Role;
use crate::trace;

/// Starts the workers that waited for a template, and joins all nodes to the first.
pub(super) fn run(start: &mut Start<'_>) -> Result<Flow> {
    let others = 1..start.nodes.len();
    if others.is_empty() {
        return Ok(Flow::Next);
    }
    // From here on errors are about other nodes: the first has proved good.
    start.settled = true;
    let (control_planes, workers): (Vec<usize>, Vec<usize>) =
        others.partition(|node| start.profile_of(*node).role == Role::ControlPlane);
    for node in workers.iter().copied() {
        match template::save_worker(start, node) {
            Err(e) if e.kind() != Kind::Interrupted => retry::other(start, node, e)?,
            saved => saved?,
        }
    }
    begin_waiting(start)?;
    start.stage("workers");
    for node in control_planes {
        join_until_ready(start, vec![node])?;
    }
    join_until_ready(start, workers)?;
    node_images::load_archives(start)?;
    node_images::bring(start)?;
    let ready = addons_everywhere(start);
    // What is wrong with a copy may be in its template, which the next attempt does without.
    start.settled = ready.is_ok() || start.nodes[0].copy_of.is_none();
    ready?;
    start.stage("join");
    Ok(Flow::Next)
}

/// Joins these nodes, again where a machine died meanwhile.
fn join_until_ready(start: &mut Start<'_>, nodes: Vec<usize>) -> Result<()> {
    let mut left = nodes;
    left.retain(|node| !start.nodes[*node].joined);
    while !left.is_empty() {
        let failed = join_all(start, &left)?;
        left.clear();
        for (node, error) in failed {
            retry::other(start, node, error)?;
            left.push(node);
        }
        begin_waiting(start)?;
    }
    Ok(())
}

/// Starts the machines of nodes that are not running yet.
fn begin_waiting(start: &mut Start<'_>) -> Result<()> {
    for node in 1..start.nodes.len() {
        while !start.nodes[node].runs {
            machines::run_one(start, node)?;
            send_identity::send(start, &[node])?;
            // It boots because no template could be saved: the others wait no longer.
            start.nodes[node].template = None;
        }
    }
    Ok(())
}

/// Joins nodes; returns those that failed, with their errors.
fn join_all(start: &mut Start<'_>, nodes: &[usize]) -> Result<Vec<(usize, Error)>> {
    let joins = Joins::prepare(start, nodes)?;
    let results = joins.run(&mut start.nodes[1..]);
    record(start, results)
}

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
            Some(own) => waiting.api("is not ready", step, |_| own.ready().map(Some)),
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

/// Waits until the add-ons run on all nodes. Not before the workers have joined: pods that belong on a node
/// that is to be repaired are not ready, and each copy of a template that was saved before would have to
/// start them.
fn addons_everywhere(start: &mut Start<'_>) -> Result<()> {
    let addons = addons::enabled(&start.cluster.profile, &start.cluster.dir)?;
    let (api, plan) = (start.api()?, start.plan(0)?);
    let limit = start.limit(HEALTH_LIMIT);
    let boots = start.cluster.profile.nodes.iter().zip(&start.nodes);
    let boots = boots.filter_map(|(node, state)| Some((node.name.clone(), state.booted?)));
    let mut rollouts = Rollouts::of(&addons).since(boots.collect());
    let step = start.env.progress.step("Wait for the add-ons");
    let target = start.cluster.target_of(start.profile_of(0))?;
    let node = &mut start.nodes[0];
    let mut on_demand = OnDemand::new(start.env.backend, target, limit);
    let mut waiting = Waiting {
        api: &api,
        remote: match &mut node.session {
            Some(session) => session.as_mut(),
            None => &mut on_demand,
        },
        units: &plan.units,
        watcher: &mut node.watcher,
        deadline: Instant::now() + limit,
        cancel: None,
    };
    waiting.addons(&mut rollouts, &step)?;
    step.done("ready");
    Ok(())
}
