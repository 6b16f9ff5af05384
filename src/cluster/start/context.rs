//! The state that the steps of one start share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::api::ApiClient;
use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::cluster::machine::host::Host;
use crate::cluster::machine::ports::{self, AskedPorts};
use crate::cluster::machine::watch::Watcher;
use crate::cluster::machine::{Machine, links};
use crate::cluster::saved::template::Template;
use crate::cluster::spec::StartOptions;
use crate::cluster::start::addon_images::Loading;
use crate::cluster::start::timing::Stopwatch;
use crate::egress::Egress;
use crate::error::{Error, Result};
use crate::hypervisor::{Acceleration, HostInfo};
use crate::network::{LAST_NUMBER, Network};
use crate::pki::{self, Pki, PkiSpec};
use crate::profile::NodeProfile;
use crate::progress::Progress;
use crate::provision::{self, Inputs, Links, Peer, Wanted};
use crate::remote::Remote;
use crate::role::Role;
use crate::store::ProfileDir;

/// The limits with hardware virtualisation; the acceleration's factor scales them.
pub(crate) const BOOT_LIMIT: Duration = Duration::from_secs(60);
pub(crate) const COPY_LIMIT: Duration = Duration::from_secs(15);
pub(crate) const HEALTH_LIMIT: Duration = Duration::from_secs(120);

/// The title of the step that starts machines, which is repeated for a machine that dies.
pub(crate) const MACHINES: &str = "Start the machines";
/// The title of the step from which a resumed node continues if something has to be changed in it.
pub(crate) const CONNECT: &str = "Connect over SSH";

/// The step that a start continues with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// The next one.
    Next,
    /// The one with this title, and those after it again.
    BackTo(&'static str),
}

/// The origin of a machine's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It was running before this start.
    Running,
    /// It resumed from its own saved memory.
    Resumed,
    /// It is a copy of a warm template.
    Copied,
    /// It booted.
    Booted,
    /// It is off, and will be a copy of another worker that boots.
    Waiting,
}

/// The state of one node's start.
pub(crate) struct NodeStart<'a> {
    pub(crate) machine: Machine<'a>,
    /// The node is created by this start.
    pub(crate) created: bool,
    /// The warm template of a new worker that belongs to no cluster yet, to start from or to save.
    pub(crate) template: Option<Template>,
    /// The template that the machine is a copy of.
    pub(crate) copy_of: Option<Template>,
    /// The number of boots so far.
    pub(crate) boots: u32,
    /// The machine runs or is paused, since before this start or because of it.
    pub(crate) runs: bool,
    pub(crate) origin: Origin,
    pub(crate) watcher: Watcher<'a>,
    /// The node has its identity and the time; nothing else has to be done in it unless its health
    /// check finds something.
    pub(crate) identity_sent: bool,
    /// The SSH session, once there is one.
    pub(crate) session: Option<Box<dyn Remote>>,
    /// The worker has joined, and is ready.
    pub(crate) joined: bool,
    /// The late units were started already.
    pub(crate) late_started: bool,
    /// The time of a boot, before which its pods do not count as running.
    pub(crate) booted: Option<OffsetDateTime>,
    /// It is a worker whose files and programs were compared with the plan by this start.
    pub(crate) compared: bool,
    /// The keys and certificates of the cluster and of the node.
    pub(crate) pki: Option<Pki>,
    /// The files and units of the node with the keys and certificates in `pki`.
    pub(crate) wanted: Option<Arc<Wanted>>,
}

impl NodeStart<'_> {
    /// Returns the SSH session.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when no step has connected to the node.
    pub(crate) fn session(&mut self) -> Result<&mut dyn Remote> {
        match &mut self.session {
            Some(session) => Ok(session.as_mut()),
            None => Err(Error::internal("there is no SSH session yet")),
        }
    }
}

/// The state of one start.
pub(crate) struct Start<'a> {
    pub(crate) env: Env<'a>,
    pub(crate) options: &'a StartOptions,
    pub(crate) host: &'a Host<'a>,
    pub(crate) info: HostInfo,
    pub(crate) cluster: Cluster,
    pub(crate) acceleration: Acceleration,
    /// The cluster is created by this start.
    pub(crate) created: bool,
    /// All machines were running, or paused, before this start.
    pub(crate) was_running: bool,
    pub(crate) nodes: Vec<NodeStart<'a>>,
    /// The warm template of the whole new cluster, to start from, or to save once the cluster is healthy.
    pub(crate) template: Option<Template>,
    /// The image archives of add-ons that this start brings.
    pub(crate) archives: Vec<PathBuf>,
    pub(crate) loading: Loading,
    /// The machine's files that were written, and the kubelet's version.
    pub(crate) changed: Vec<String>,
    pub(crate) node_version: String,
    pub(crate) current_context: bool,
    /// Certificates that this start renewed.
    pub(crate) renewed: Vec<String>,
    pub(crate) timing: Stopwatch,
    /// The time at which this attempt's machine began to run.
    pub(crate) began: Instant,
    /// The first node is healthy: errors are about others.
    pub(crate) settled: bool,
    pub(crate) egress: Egress,
}

impl Start<'_> {
    /// Ends the running stage and gives it a name.
    pub(crate) fn stage(&mut self, name: &'static str) {
        self.timing.end(name);
    }

    /// Returns the time left of a limit: the user's covers boot and health together.
    pub(crate) fn limit(&self, with_kvm: Duration) -> Duration {
        match self.options.timeout {
            Some(timeout) => timeout.saturating_sub(self.began.elapsed()),
            None => with_kvm * self.acceleration.deadline_factor(),
        }
    }

    /// Replaces the ports of a node that other programs have taken since its last start, and saves the
    /// profile.
    pub(crate) fn replace_taken_ports(&mut self, node: usize) -> Result<()> {
        // Under one lock until it is saved: two starts never choose the same free port.
        let _shared = self.env.lock_shared()?;
        let profile = &mut self.cluster.profile;
        let mut asked = match node {
            0 => self.options.cluster.ports,
            _ => AskedPorts::default(),
        };
        // It is the endpoint's where there is one.
        asked.api_port.take_if(|_| profile.endpoint.is_some());
        let replaced = ports::replace_taken(self.env.store, profile, node, asked)?;
        for (port, new) in &replaced {
            self.env.progress.warn(&format!(
                "port {port} is taken by another program; using {new} instead"
            ));
        }
        if !replaced.is_empty() {
            self.cluster.save()?;
            // The other nodes reach it at its port.
            self.nodes.iter_mut().for_each(|node| node.wanted = None);
        }
        Ok(())
    }

    /// Returns a node as its profile describes it.
    pub(crate) fn profile_of(&self, node: usize) -> &NodeProfile {
        &self.cluster.profile.nodes[node]
    }

    /// Returns the folder with the keys and marks of a node.
    pub(crate) fn dir_of(&self, node: usize) -> ProfileDir {
        self.cluster.node_dir(self.profile_of(node))
    }

    /// Returns the keys and certificates of the cluster and of a node, which are created or renewed where
    /// that is needed.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) when a key is damaged or lost.
    pub(crate) fn pki(&mut self, node: usize) -> Result<&Pki> {
        if self.nodes[node].pki.is_none() {
            let now = OffsetDateTime::now_utc();
            let dir = self.cluster.dir.pki();
            let pki = if node == 0 {
                self.env.backend.pki(&dir, &PkiSpec::of_first_node(now))?
            } else {
                self.pki(0)?;
                let NodeProfile {
                    name, number, role, ..
                } = self.profile_of(node);
                let spec = PkiSpec::of_node(name, *number, *role, now);
                pki::ensure_node(&dir, self.known_pki()?, &self.dir_of(node).pki(), &spec)?
            };
            self.renewed.extend(report_renewed(&pki, self.env.progress));
            self.nodes[node].pki = Some(pki);
        }
        self.known_pki_of(node)
    }

    /// Returns the cluster's keys and certificates, which [`Start::pki`] has read.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when no step has done that yet.
    pub(crate) fn known_pki(&self) -> Result<&Pki> {
        self.known_pki_of(0)
    }

    /// Returns the keys and certificates of a node, which [`Start::pki`] has read.
    ///
    /// # Errors
    /// As [`Start::known_pki`].
    pub(crate) fn known_pki_of(&self, node: usize) -> Result<&Pki> {
        let pki = self.nodes[node].pki.as_ref();
        pki.ok_or_else(|| Error::internal("the certificates are not read yet"))
    }

    /// Returns a client for the API.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) when a certificate is damaged.
    pub(crate) fn api(&self) -> Result<ApiClient> {
        self.cluster.api_with(self.env.backend, self.known_pki()?)
    }

    /// Returns whether the user has yet to install what gives pods a network.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`](crate::error::Kind::Unhealthy) when the API does not answer.
    pub(crate) fn waits_for_network(&self) -> Result<bool> {
        if !self.cluster.profile.lacks_network() {
            return Ok(false);
        }
        let first = self.api()?.node(&self.profile_of(0).name)?;
        Ok(!first.is_some_and(|node| node.ready))
    }

    /// Forgets the keys and certificates, which were removed to be created again; the cluster's own are
    /// behind those of each node.
    pub(crate) fn forget_pki(&mut self, node: usize) {
        let all = if node == 0 {
            &mut self.nodes[..]
        } else {
            &mut self.nodes[node..=node]
        };
        for node in all {
            node.pki = None;
            node.wanted = None;
        }
    }

    /// Forgets what a node's machine was, which is off now and boots next.
    pub(crate) fn begin_again(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        state.origin = Origin::Booted;
        state.copy_of = None;
        state.identity_sent = false;
        state.session = None;
        state.late_started = false;
        state.joined = false;
        state.runs = false;
        self.forget_pki(node);
    }

    /// Returns the files and units of a node, with its keys and certificates.
    ///
    /// # Errors
    /// As [`Start::pki`]; [`Kind::State`](crate::error::Kind::State) for a damaged profile.
    pub(crate) fn plan(&mut self, node: usize) -> Result<Arc<Wanted>> {
        if let Some(wanted) = &self.nodes[node].wanted {
            return Ok(Arc::clone(wanted));
        }
        self.pki(node)?;
        let links = links::of(&self.cluster, node)?;
        let wanted = Arc::new(self.plan_with(node, &links, self.known_pki_of(node)?)?);
        self.nodes[node].wanted = Some(Arc::clone(&wanted));
        Ok(wanted)
    }

    /// Returns the files and units that every worker of a cluster with these settings has: nothing in them
    /// says which worker, or which cluster.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) for a damaged profile.
    pub(crate) fn anonymous_plan(&self) -> Result<Wanted> {
        let network = Network::default();
        let profile = &self.cluster.profile;
        let plan = |name: &str, number, links: &Links| -> Result<Wanted> {
            let node = network.node(name, number);
            Ok(provision::plan(&Inputs {
                network: &network,
                node: &node,
                role: Role::Worker,
                links,
                control_planes: std::slice::from_ref(&node),
                egress: &self.egress,
                pki: &Pki::made_up(name),
                pause_image: &profile.assets.pause_image,
                cni: profile.spec.cni,
                host_ports: &[],
                extra_config: &profile.spec.extra_config,
                version: profile.version()?,
            }))
        };
        let one = Links {
            private_key: "made up".into(),
            peers: vec![Peer {
                node: network.first_node(),
                public_key: "made up".into(),
                port: 1,
            }],
        };
        Ok(provision::common(
            plan("one", LAST_NUMBER - 1, &one)?,
            &plan("other", LAST_NUMBER, &Links::default())?,
        ))
    }

    /// Returns the files and units of a node with these links, keys and certificates.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) for a damaged profile.
    pub(crate) fn plan_with(&self, node: usize, links: &Links, pki: &Pki) -> Result<Wanted> {
        let network = Network::default();
        let profile = &self.cluster.profile;
        let control_planes = profile.of_role(Role::ControlPlane);
        let control_planes: Vec<_> = control_planes.map(NodeProfile::addresses).collect();
        Ok(provision::plan(&Inputs {
            network: &network,
            node: &self.profile_of(node).addresses(),
            role: self.profile_of(node).role,
            links,
            control_planes: &control_planes,
            egress: &self.egress,
            pki,
            cni: profile.spec.cni,
            host_ports: &profile.opened,
            extra_config: &profile.spec.extra_config,
            pause_image: &profile.assets.pause_image,
            version: profile.version()?,
        }))
    }
}

/// Reports which certificates were renewed because of their age or faults; returns their names.
fn report_renewed(pki: &Pki, progress: &dyn Progress) -> Vec<String> {
    let renewed = pki.renewed();
    if renewed.is_empty() {
        return Vec::new();
    }
    if renewed.iter().any(|r| r.reason == pki::NOT_YET_VALID) {
        progress.warn(
            "certificates were not valid yet by this host's clock, so they were renewed; \
             check that the clock is right: date",
        );
    }
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for r in renewed {
        by_reason.entry(r.reason).or_default().push(r.name.stem());
    }
    let texts = by_reason
        .iter()
        .map(|(why, names)| format!("{} ({why})", names.join(", ")));
    let texts: Vec<String> = texts.collect();
    progress.step("Renew certificates").done(texts.join("; "));
    renewed.iter().map(|r| r.name.stem().to_owned()).collect()
}
