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
use crate::cluster::machine::watch::Watcher;
use crate::cluster::machine::{Machine, ports};
use crate::cluster::saved::template::Template;
use crate::cluster::spec::StartOptions;
use crate::cluster::start::addon_images::Loading;
use crate::cluster::start::timing::Stopwatch;
use crate::egress::Egress;
use crate::error::{Error, Result};
use crate::hypervisor::{Acceleration, HostInfo};
use crate::network::Network;
use crate::pki::{self, Pki, PkiSpec};
use crate::progress::Progress;
use crate::provision::{self, Inputs, Wanted};
use crate::remote::Remote;

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
}

/// The state of one node's start.
pub(crate) struct NodeStart<'a> {
    pub(crate) machine: Machine<'a>,
    pub(crate) origin: Origin,
    pub(crate) watcher: Watcher<'a>,
    /// The node has its identity and the time; nothing else has to be done in it unless its health
    /// check finds something.
    pub(crate) identity_sent: bool,
    /// The SSH session, once there is one.
    pub(crate) session: Option<Box<dyn Remote>>,
    /// The late units were started already.
    pub(crate) late_started: bool,
    /// The time of a boot, before which its pods do not count as running.
    pub(crate) booted: Option<OffsetDateTime>,
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
    /// The machine was running, or paused, before this start.
    pub(crate) was_running: bool,
    pub(crate) nodes: Vec<NodeStart<'a>>,
    /// The warm template to start from, or to save once the cluster is healthy.
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
    /// The number of boots so far.
    pub(crate) boots: u32,
    pub(crate) pki: Option<Pki>,
    pub(crate) egress: Egress,
    /// The files and units of the node with the keys and certificates in `pki`.
    pub(crate) wanted: Option<Arc<Wanted>>,
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

    /// Replaces the ports that other programs have taken since the last start, and saves the profile.
    pub(crate) fn replace_taken_ports(&mut self) -> Result<()> {
        // Under one lock until it is saved: two starts never choose the same free port.
        let _shared = self.env.lock_shared()?;
        let asked = self.options.cluster.ports;
        let replaced = ports::replace_taken(self.env.store, &mut self.cluster.profile, asked)?;
        for (port, new) in &replaced {
            self.env.progress.warn(&format!(
                "port {port} is taken by another program; using {new} instead"
            ));
        }
        if !replaced.is_empty() {
            self.cluster.save()?;
        }
        Ok(())
    }

    /// Returns the cluster's keys and certificates, which are created or renewed where that is needed.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) when a key is damaged or lost.
    pub(crate) fn pki(&mut self) -> Result<&Pki> {
        if self.pki.is_none() {
            let spec = PkiSpec::of_first_node(OffsetDateTime::now_utc());
            let pki = self.env.backend.pki(&self.cluster.dir.pki(), &spec)?;
            self.renewed.extend(report_renewed(&pki, self.env.progress));
            self.pki = Some(pki);
        }
        self.known_pki()
    }

    /// Returns the keys and certificates that [`Start::pki`] has read.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when no step has done that yet.
    pub(crate) fn known_pki(&self) -> Result<&Pki> {
        self.pki
            .as_ref()
            .ok_or_else(|| Error::internal("the certificates are not read yet"))
    }

    /// Returns a client for the API.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) when a certificate is damaged.
    pub(crate) fn api(&self) -> Result<ApiClient> {
        self.cluster.api_with(self.env.backend, self.known_pki()?)
    }

    /// Forgets the keys and certificates, which were removed to be created again.
    pub(crate) fn forget_pki(&mut self) {
        self.pki = None;
        self.wanted = None;
    }

    /// Returns the files and units of the node, with the keys and certificates that [`Start::pki`] has read.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) for a damaged profile.
    pub(crate) fn plan(&mut self) -> Result<Arc<Wanted>> {
        if let Some(wanted) = &self.wanted {
            return Ok(Arc::clone(wanted));
        }
        let wanted = Arc::new(self.plan_with(self.known_pki()?)?);
        self.wanted = Some(Arc::clone(&wanted));
        Ok(wanted)
    }

    /// Returns the files and units of the node with these keys and certificates.
    ///
    /// # Errors
    /// As [`Start::plan`].
    pub(crate) fn plan_with(&self, pki: &Pki) -> Result<Wanted> {
        let network = Network::default();
        Ok(provision::plan(&Inputs {
            network: &network,
            node: &network.first_node(),
            role: self.cluster.profile.first().role,
            egress: &self.egress,
            pki,
            pause_image: &self.cluster.profile.assets.pause_image,
            version: self.cluster.profile.version()?,
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
