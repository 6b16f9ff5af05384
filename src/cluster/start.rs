//! `kubby start`, top to bottom: each step looks first and changes only what differs, so that
//! running it again repairs whatever is missing.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::archives::Loading;
use super::boot::Watcher;
use super::certs;
use super::context;
use super::health::Waiting;
use super::identity;
use super::prepare::Prepared;
use super::resources::{self, Names};
use super::revive;
use super::services;
use super::stopwatch::Stopwatch;
use super::warm::Template;
use super::{Access, StartOptions};
use crate::egress::{self, Egress, HostFacts};
use crate::error::{Kind, Result};
use crate::fsutil;
use crate::hypervisor::{self, Hypervisor, Libvirt};
use crate::interrupt;
use crate::network::Network;
use crate::pki::{self, Pki, PkiSpec};
use crate::profile::{Profile, ProfileName};
use crate::progress::Progress;
use crate::provision::{self, Inputs, Wanted};
use crate::role::Role;
use crate::saved::Stamp;
use crate::store::Store;

/// Limits with hardware virtualisation; the acceleration's factor makes them fit emulation.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
const COPY_LIMIT: Duration = Duration::from_secs(15);
const HEALTH_LIMIT: Duration = Duration::from_secs(120);

/// How often a machine that dies while it boots is tried in all. Emulation loses a boot in some
/// hundreds, and on a host with much to do two in a row.
const BOOTS: u32 = 3;

/// What `start` brought about.
#[derive(Debug)]
pub struct Started {
    /// The cluster.
    pub access: Access,
    /// The virtual machine was made by this start.
    pub created: bool,
    /// The virtual machine ran before this start.
    pub was_running: bool,
    /// The virtual machine is a copy of a warm template.
    pub from_template: bool,
    /// Paths in the node that were written.
    pub changed: Vec<String>,
    /// Certificates that were renewed, by their files' names.
    pub renewed: Vec<String>,
    /// The kubeconfig's current context is this cluster's.
    pub current_context: bool,
    /// The kubelet's version with `v`.
    pub node_version: String,
    /// How long each stage took, in their order.
    pub stages: Vec<(&'static str, Duration)>,
}

/// The surroundings of one start.
pub(super) struct Start<'a> {
    pub(super) store: &'a Store,
    pub(super) name: &'a ProfileName,
    pub(super) options: &'a StartOptions,
    pub(super) progress: &'a dyn Progress,
    pub(super) host_facts: &'a HostFacts,
    stopwatch: RefCell<Stopwatch>,
    /// Image archives of add-ons that this start brings.
    pub(super) archives: RefCell<Vec<PathBuf>>,
    /// The warnings about the way to the world are told.
    warned: Cell<bool>,
    /// Certificates that this start renewed.
    renewed: RefCell<Vec<String>>,
}

/// Creates the cluster, brings it back, or repairs what is missing.
///
/// # Errors
/// Of every class; what was made until then stays and the next `start` goes on from it.
pub fn start(
    store: &Store,
    name: &ProfileName,
    options: &StartOptions,
    progress: &dyn Progress,
) -> Result<Started> {
    // A proxy that makes no sense is told before anything is made.
    let host_facts = HostFacts::read();
    egress::proxy::from_environment(|name| host_facts.variable(name))?;
    let start = Start {
        store,
        name,
        options,
        progress,
        host_facts: &host_facts,
        stopwatch: RefCell::new(Stopwatch::start()),
        archives: RefCell::default(),
        warned: Cell::new(false),
        renewed: RefCell::default(),
    };
    let _lock = super::lock(store, name, progress)?;
    let existing = Profile::load(&store.profile_dir(name))?;
    let uri = match (&existing, &options.connect) {
        (Some(profile), _) => profile.connect.clone(),
        (None, asked) => hypervisor::default_uri(asked.as_deref()),
    };
    let hypervisor = Libvirt::open(&uri)?;
    let (mut access, prepared) = start.prepare(&hypervisor, existing, &uri)?;
    let names = Names::new(store, &access.profile);
    start.stage("check");
    let begin = if prepared.running {
        // From here on the disk goes its own way: saved memory that a killed kubby left fits no
        // more.
        fsutil::remove_all(&access.dir.suspended())?;
        // One that was loaded and not let go has none.
        let ports = resources::own_ports(&access.profile);
        revive::open_ports(&hypervisor, &names.domain, &ports)?;
        hypervisor.resume(&names.domain)?;
        Begin::Running
    } else if start.wake(&hypervisor, &mut access, &prepared)? {
        start.stage("machine");
        Begin::Woken
    } else {
        start.begin(&hypervisor, &mut access, &prepared)?
    };
    start.until_healthy(&hypervisor, access, &prepared, begin)
}

/// What the checks at the end of a start have found.
pub(super) struct Healthy {
    /// The kubelet's version with `v`.
    pub(super) node_version: String,
    /// Paths in the node that were written.
    pub(super) changed: Vec<String>,
}

/// How a start's machine begins.
enum Begin {
    /// It ran before this start.
    Running,
    /// It is a copy of this template.
    Copied(Template),
    /// It goes on from where it was saved.
    Woken,
    /// It boots; once it is healthy it is saved as this template.
    Booting(Option<Template>),
}

impl Start<'_> {
    /// Lets a machine that is off begin: as a copy of the template of its specification where
    /// there is one, otherwise by booting.
    fn begin(
        &self,
        hypervisor: &dyn Hypervisor,
        access: &mut Access,
        prepared: &Prepared,
    ) -> Result<Begin> {
        let template = self.get_assets(hypervisor, access, prepared)?;
        let template = match template {
            Some(template) if self.copy_of(&template, hypervisor, access, prepared)? => {
                self.stage("machine");
                return Ok(Begin::Copied(template));
            }
            other => other,
        };
        self.machine(hypervisor, access, prepared.acceleration)?;
        Ok(Begin::Booting(template))
    }

    /// From a machine that has begun to a healthy cluster, if need be by another boot: a copy that
    /// turns out bad is given up, and a machine that dies is switched off and on.
    fn until_healthy(
        &self,
        hypervisor: &dyn Hypervisor,
        mut access: Access,
        prepared: &Prepared,
        mut begin: Begin,
    ) -> Result<Started> {
        let mut boots = 1;
        loop {
            let error = match self.kubernetes(hypervisor, access.clone(), prepared, &begin) {
                Err(e) if e.kind() != Kind::Interrupted => e,
                ended => return ended,
            };
            let template = match begin {
                Begin::Copied(template) => {
                    // Nothing of the user's is in it yet, so a copy that turns out bad may go.
                    let goes = self.give_up_template(&template, hypervisor, &access, &error)?;
                    goes.then_some(template)
                }
                begin if error.is_of_dead_machine() && boots < BOOTS => {
                    boots += 1;
                    self.progress.warn(&format!(
                        "{error}; switching it off and on again: try {boots} of {BOOTS}"
                    ));
                    hypervisor.destroy(&Names::new(self.store, &access.profile).domain)?;
                    match begin {
                        Begin::Booting(template) => template,
                        _ => None,
                    }
                }
                _ => return Err(error),
            };
            self.machine(hypervisor, &mut access, prepared.acceleration)?;
            begin = Begin::Booting(template);
        }
    }

    /// What is wanted in the node, with these keys and certificates.
    pub(super) fn plan(&self, access: &Access, pki: &Pki) -> Result<Wanted> {
        let egress = self.egress(access)?;
        let network = Network::default();
        Ok(provision::plan(&Inputs {
            network: &network,
            node: &network.first_node(),
            role: Role::ControlPlane,
            egress: &egress,
            pki,
            pause_image: &access.profile.assets.pause_image,
            version: access.profile.version()?,
        }))
    }

    /// How the node reaches the world, as far as it is known without asking it.
    fn egress(&self, access: &Access) -> Result<Egress> {
        let (egress, warnings) = Egress::gather(&access.profile.egress, self.host_facts)?;
        // Once is enough, however often it is asked.
        if !self.warned.replace(true) {
            for warning in warnings {
                self.progress.warn(&warning);
            }
        }
        Ok(egress)
    }

    /// What the image archives of the user's add-ons look like from outside: they may be large.
    pub(super) fn archive_marks(&self) -> Vec<String> {
        let marks = self.archives.borrow();
        let mut marks: Vec<String> = marks
            .iter()
            .map(|path| format!("{} {:?}", path.display(), Stamp::of(path)))
            .collect();
        marks.sort();
        marks
    }

    /// The cluster's keys and certificates; tells which were renewed.
    pub(super) fn pki(&self, access: &Access) -> Result<Pki> {
        let pki = pki::ensure(
            &access.dir.pki(),
            &PkiSpec::of_first_node(OffsetDateTime::now_utc()),
        )?;
        let mut renewed = self.renewed.borrow_mut();
        renewed.extend(certs::tell_renewed(&pki, self.progress));
        Ok(pki)
    }

    fn write_context(&self, access: &Access, pki: &Pki) -> Result<bool> {
        let keep = self.options.keep_context;
        context::write(self.store, access, pki, keep, self.progress)
    }

    /// Ends the running stage and gives it a name.
    pub(super) fn stage(&self, name: &'static str) {
        self.stopwatch.borrow_mut().end(name);
    }

    /// From a machine that runs to a healthy cluster with a context.
    fn kubernetes(
        &self,
        hypervisor: &dyn Hypervisor,
        mut access: Access,
        prepared: &Prepared,
        begin: &Begin,
    ) -> Result<Started> {
        let names = &Names::new(self.store, &access.profile);
        let acceleration = prepared.acceleration;
        let began = Instant::now();
        // What the user gives is for boot and health together.
        let limit = |with_kvm: Duration| match self.options.timeout {
            Some(timeout) => timeout.saturating_sub(began.elapsed()),
            None => with_kvm * acceleration.deadline_factor(),
        };
        let mut watcher = Watcher::new(hypervisor, &access.profile, acceleration, names);
        let pki = self.pki(&access)?;
        let introduced = match begin {
            Begin::Copied(_) | Begin::Woken => {
                identity::introduce(hypervisor, names, &access, &pki)?
            }
            Begin::Running | Begin::Booting(_) => false,
        };
        self.stage("introduce");
        if introduced {
            // Whoever waits for kubectl may go ahead: what follows looks, and changes nothing.
            self.write_context(&access, &pki)?;
            let found = self.awake(hypervisor, &access, prepared, &pki, limit(HEALTH_LIMIT))?;
            if let Some(healthy) = found {
                return self.conclude(hypervisor, access, prepared, begin, &pki, healthy);
            }
        }
        let step = self.progress.step(match begin {
            Begin::Booting(_) => "Boot the node",
            Begin::Running | Begin::Copied(_) | Begin::Woken => "Reach the node",
        });
        // A limit of the user's is for the attempts in full, and an error tells how long they took.
        if matches!(begin, Begin::Booting(_)) && self.options.timeout.is_none() {
            watcher.before_ssh(acceleration)?;
        }
        // A copy that does not answer soon is given up for a cold start.
        let limit_of_boot = limit(match begin {
            Begin::Copied(_) => COPY_LIMIT,
            _ => BOOT_LIMIT,
        });
        let mut ssh = identity::connect(&access, &pki, &mut watcher, limit_of_boot, &step)?;
        // The clock of a machine that was paused or saved stood still, and so did that of one
        // whose host slept.
        if !matches!(begin, Begin::Booting(_)) {
            identity::tell_time(&mut ssh)?;
        }
        step.done("SSH answers");
        self.stage("boot");
        interrupt::check()?;

        let wanted = self.plan(&access, &pki)?;
        let step = self.progress.step("Configure Kubernetes");
        let applied = provision::apply(&mut ssh, &wanted)?;
        if applied.changed.is_empty() {
            step.skipped("everything is as it should be");
        } else {
            step.done(format!("{} files", applied.changed.len()));
        }
        self.stage("configure");
        let loading = Loading::begin(&access, &self.archives.borrow());
        let restarted = &applied.restarted;
        self.settle(
            &mut ssh,
            &wanted,
            restarted,
            &mut watcher,
            limit(HEALTH_LIMIT),
        )?;
        let booted = match begin {
            Begin::Booting(_) => Some(provision::booted_at(&mut ssh)?),
            _ => None,
        };
        let mut waiting = Waiting {
            api: &access.api_with(&pki)?,
            remote: &mut ssh,
            units: &wanted.units,
            watcher: &mut watcher,
            deadline: Instant::now() + limit(HEALTH_LIMIT),
            pointless: None,
        };
        let node_version = self.healthy(&access, &mut waiting, booted, loading)?;
        self.stage("verify");
        if let Begin::Booting(Some(template)) = begin
            && prepared.created
        {
            self.save_template(template, hypervisor, &mut access, &mut ssh)?;
            self.stage("template");
        }
        let healthy = Healthy {
            node_version,
            changed: applied.changed,
        };
        self.conclude(hypervisor, access, prepared, begin, &pki, healthy)
    }

    /// Brings back the ways to Services and writes the context.
    fn conclude(
        &self,
        hypervisor: &dyn Hypervisor,
        mut access: Access,
        prepared: &Prepared,
        begin: &Begin,
        pki: &Pki,
        healthy: Healthy,
    ) -> Result<Started> {
        let api = access.api_with(pki)?;
        services::restore(self.store, &mut access, hypervisor, &api, self.progress)?;
        let current_context = self.write_context(&access, pki)?;
        if let Begin::Copied(template) = begin {
            template.trust()?;
        }
        self.stage("context");
        Ok(Started {
            access,
            created: prepared.created,
            was_running: matches!(begin, Begin::Running),
            from_template: matches!(begin, Begin::Copied(_)),
            changed: healthy.changed,
            renewed: self.renewed.take(),
            current_context,
            node_version: healthy.node_version,
            stages: self.stopwatch.borrow_mut().take_stages(),
        })
    }
}
