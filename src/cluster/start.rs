//! `kubby start`, top to bottom: each step looks first and changes only what differs, so that
//! running it again repairs whatever is missing.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::addons;
use super::boot::Watcher;
use super::context;
use super::health::Waiting;
use super::identity;
use super::preflight;
use super::resources::Names;
use super::services;
use super::warm::Template;
use super::{Access, StartOptions};
use crate::addon::{self, Addon, Folder};
use crate::egress::{self, Egress, HostFacts};
use crate::error::{Kind, Result};
use crate::hypervisor::{self, Acceleration, HostInfo, Hypervisor, Libvirt};
use crate::interrupt;
use crate::kubeconfig;
use crate::pki::{self, Pki};
use crate::profile::{Profile, ProfileName};
use crate::progress::Progress;
use crate::provision::{self, Inputs};
use crate::remote::Ssh;
use crate::saved::Stamp;
use crate::store::{ProfileDir, Store};
use crate::trace;

/// Limits with hardware virtualisation; the acceleration's factor makes them fit emulation.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
const COPY_LIMIT: Duration = Duration::from_secs(15);
const HEALTH_LIMIT: Duration = Duration::from_secs(120);

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
    /// The kubeconfig's current context is this cluster's.
    pub current_context: bool,
    /// The kubelet's version with `v`.
    pub node_version: String,
    /// How long each stage took, in their order.
    pub stages: Vec<(&'static str, Duration)>,
}

/// Takes the time of one stage after the other.
struct Stopwatch {
    last: Instant,
    stages: Vec<(&'static str, Duration)>,
}

impl Stopwatch {
    fn new() -> Self {
        Stopwatch {
            last: Instant::now(),
            stages: Vec::new(),
        }
    }

    /// Ends the running stage and gives it a name.
    fn stage(&mut self, name: &'static str) {
        let now = Instant::now();
        trace::stage(name, self.last);
        self.stages.push((name, now - self.last));
        self.last = now;
    }
}

/// The surroundings of one start.
pub(super) struct Start<'a> {
    pub(super) store: &'a Store,
    pub(super) name: &'a ProfileName,
    pub(super) options: &'a StartOptions,
    pub(super) progress: &'a dyn Progress,
    host_facts: &'a HostFacts,
    watch: RefCell<Stopwatch>,
    /// Image archives of add-ons that this start brings.
    pub(super) archives: RefCell<Vec<PathBuf>>,
    /// The warnings about the way to the world are told.
    warned: Cell<bool>,
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
        watch: RefCell::new(Stopwatch::new()),
        archives: RefCell::default(),
        warned: Cell::new(false),
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
    let was_running = is_active(&hypervisor, &names)?;
    start.stage("check");
    if was_running {
        hypervisor.resume(&names.domain)?;
        return start.kubernetes(&hypervisor, access, &prepared, Begin::Running);
    }
    if start.wake(&hypervisor, &mut access, &prepared)? {
        start.stage("machine");
        return start.kubernetes(&hypervisor, access, &prepared, Begin::Woken);
    }
    let template = start.get_assets(&hypervisor, &mut access, &prepared)?;
    if let Some(template) = &template
        && start.copy_of(template, &hypervisor, &mut access, &prepared)?
    {
        start.stage("machine");
        match start.kubernetes(&hypervisor, access.clone(), &prepared, Begin::Copied) {
            Err(e) if e.kind() != Kind::Interrupted => {
                // Nothing of the user's is in it yet, so a copy that turns out bad may go.
                start.give_up_template(template, &hypervisor, &access, &e)?;
            }
            done => return done,
        }
    }
    start.machine(&hypervisor, &mut access, prepared.acceleration)?;
    start.kubernetes(&hypervisor, access, &prepared, Begin::Booting(template))
}

/// What the checks before the start have found.
pub(super) struct Prepared {
    pub(super) host: HostInfo,
    pub(super) acceleration: Acceleration,
    /// The cluster is made by this start.
    pub(super) created: bool,
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
    /// It is a copy of a template.
    Copied,
    /// It goes on from where it was saved.
    Woken,
    /// It boots; once it is healthy it is saved as this template.
    Booting(Option<Template>),
}

fn is_active(hypervisor: &dyn Hypervisor, names: &Names) -> Result<bool> {
    Ok(hypervisor
        .find(&names.domain)?
        .is_some_and(|domain| domain.state.is_active()))
}

/// Writes down which add-ons the cluster is to have.
fn settle_addons(
    profile: &mut Profile,
    dir: &ProfileDir,
    brought: &[Folder],
    unwanted: &[String],
) -> Result<()> {
    let before = profile.addons.clone();
    for Folder { addon, .. } in brought {
        if addon.folder.is_some() {
            addon::keep(dir, addon)?;
        }
        if !profile.addons.contains(&addon.name) {
            profile.addons.push(addon.name.clone());
        }
    }
    profile.addons.retain(|name| !unwanted.contains(name));
    if profile.addons == before {
        return Ok(());
    }
    profile.save(dir)
}

/// The disk that libvirt has is the one that counts: somebody may have been cut short between
/// freezing a disk and writing down the new one.
fn follow_disk(hypervisor: &dyn Hypervisor, profile: &mut Profile, names: &Names) -> Result<()> {
    if let Some(path) = hypervisor.root_disk(&names.domain)?
        && let Some(disk) = path.file_name().and_then(|name| name.to_str())
    {
        profile.disk = Some(disk.to_owned());
    }
    Ok(())
}

impl Start<'_> {
    /// How the node reaches the world, as far as it is known without asking it.
    pub(super) fn egress(&self, access: &Access) -> Result<Egress> {
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

    /// Ends the running stage and gives it a name.
    pub(super) fn stage(&self, name: &'static str) {
        self.watch.borrow_mut().stage(name);
    }

    /// Checks everything that can be checked, then settles the profile and saves it.
    fn prepare(
        &self,
        hypervisor: &dyn Hypervisor,
        existing: Option<Profile>,
        uri: &str,
    ) -> Result<(Access, Prepared)> {
        let step = self.progress.step("Check the host");
        let host = hypervisor.host()?;
        let names = Names::of(self.store, self.name, uri);
        preflight::check_domain(hypervisor, &names, self.store, self.name, existing.as_ref())?;
        let kubeconfig = match &existing {
            Some(profile) => profile.kubeconfig.clone(),
            None => kubeconfig::default_path()?,
        };
        preflight::check_kubeconfig(self.store, self.name, &kubeconfig)?;
        let (acceleration, reason) =
            preflight::acceleration(self.options.accel, existing.as_ref(), &host)?;
        let dir = self.store.profile_dir(self.name);
        let created = existing.is_none();
        let brought = addons::brought(self.options, existing.as_ref())?;
        let mut profile = match existing {
            Some(mut profile) => {
                let running = is_active(hypervisor, &names)?;
                follow_disk(hypervisor, &mut profile, &names)?;
                preflight::change_profile(
                    &mut profile,
                    self.options,
                    acceleration,
                    &host,
                    running || dir.suspended().exists(),
                )?;
                profile.save(&dir)?;
                profile
            }
            None => self.new_profile(uri, acceleration, &host, kubeconfig)?,
        };
        let archives = brought.iter().flat_map(|folder| folder.archives.clone());
        self.archives.borrow_mut().extend(archives);
        settle_addons(&mut profile, &dir, &brought, &self.options.no_addons)?;
        step.done(format!(
            "{acceleration} ({reason}), {} CPUs, {} memory",
            profile.cpus,
            crate::units::Mebibytes(profile.memory_mib)
        ));
        let prepared = Prepared {
            host,
            acceleration,
            created,
        };
        Ok((Access { profile, dir }, prepared))
    }

    fn new_profile(
        &self,
        uri: &str,
        acceleration: Acceleration,
        host: &HostInfo,
        kubeconfig: std::path::PathBuf,
    ) -> Result<Profile> {
        // Under one lock until it is saved: two starts never choose the same free port.
        let _shared = self.store.lock_shared(|| {})?;
        let ports = preflight::choose_ports(self.store, self.name, self.options)?;
        let profile = preflight::new_profile(
            self.name,
            self.options,
            uri,
            acceleration,
            host,
            kubeconfig,
            ports,
        )?;
        profile.save(&self.store.profile_dir(self.name))?;
        Ok(profile)
    }

    /// From a machine that runs to a healthy cluster with a context.
    fn kubernetes(
        &self,
        hypervisor: &dyn Hypervisor,
        mut access: Access,
        prepared: &Prepared,
        begin: Begin,
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
        let pki = pki::ensure(&access.dir.pki(), &provision::pki_spec(Vec::new())?)?;
        let introduced = match begin {
            Begin::Copied | Begin::Woken => identity::introduce(hypervisor, names, &access, &pki)?,
            Begin::Running | Begin::Booting(_) => false,
        };
        self.stage("introduce");
        if introduced {
            // Whoever waits for kubectl may go ahead: what follows looks, and changes nothing.
            context::write(self, &access, &pki)?;
            let found = self.awake(hypervisor, &access, prepared, &pki, limit(HEALTH_LIMIT))?;
            if let Some(healthy) = found {
                return self.conclude(hypervisor, access, prepared, &begin, &pki, healthy);
            }
        }
        let step = self.progress.step(match begin {
            Begin::Booting(_) => "Boot the node",
            Begin::Running | Begin::Copied | Begin::Woken => "Reach the node",
        });
        // A copy that does not answer soon is given up for a cold start.
        let limit_of_boot = limit(match begin {
            Begin::Copied => COPY_LIMIT,
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

        let egress = self.egress(&access)?;
        let step = self.progress.step("Configure Kubernetes");
        let inputs = Inputs {
            egress: &egress,
            pki: &pki,
            pause_image: &access.profile.assets.pause_image,
            version: access.profile.version()?,
        };
        let wanted = provision::plan(&inputs);
        let applied = provision::apply(&mut ssh, &wanted)?;
        if applied.changed.is_empty() {
            step.skipped("everything is as it should be");
        } else {
            step.done(format!("{} files", applied.changed.len()));
        }
        self.stage("configure");
        let node_version = self.healthy(
            &access,
            &pki,
            &mut ssh,
            &wanted,
            &mut watcher,
            limit(HEALTH_LIMIT),
        )?;
        self.stage("verify");
        if let Begin::Booting(Some(template)) = &begin
            && prepared.created
        {
            self.save_template(template, hypervisor, &mut access, &mut ssh)?;
            self.stage("template");
        }
        let healthy = Healthy {
            node_version,
            changed: applied.changed,
        };
        self.conclude(hypervisor, access, prepared, &begin, &pki, healthy)
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
        let current_context = context::write(self, &access, pki)?;
        self.stage("context");
        Ok(Started {
            access,
            created: prepared.created,
            was_running: matches!(begin, Begin::Running),
            from_template: matches!(begin, Begin::Copied),
            changed: healthy.changed,
            current_context,
            node_version: healthy.node_version,
            stages: std::mem::take(&mut self.watch.borrow_mut().stages),
        })
    }

    fn healthy(
        &self,
        access: &Access,
        pki: &Pki,
        ssh: &mut Ssh,
        wanted: &provision::Wanted,
        watcher: &mut Watcher<'_>,
        limit: Duration,
    ) -> Result<String> {
        let api = access.api_with(pki)?;
        let mut waiting = Waiting {
            api: &api,
            remote: ssh,
            units: &wanted.units,
            watcher,
            deadline: Instant::now() + limit,
        };
        let step = self.progress.step("Wait for the API");
        waiting.api_ready(&step)?;
        step.done("");
        self.stage("api");
        provision::start_all(waiting.remote)?;
        let addons = addons::enabled(&access.profile, &access.dir)?;
        let all: Vec<&Addon> = addons.iter().collect();
        let mut rollouts = addon::Rollouts::of(all.iter().copied());
        let step = self.progress.step("Apply the add-ons");
        // Images first: a pod whose image is not there yet is tried again only after a while.
        if !rollouts.look(&api).unwrap_or(false) {
            step.detail("importing images");
            addons::import(waiting.remote, &all)?;
            self.stage("images");
        }
        addons::load(access, &self.archives.borrow(), self.progress)?;
        step.detail("applying manifests");
        let flag = access.profile.name.flag();
        addons::apply(&api, &all, false, waiting.deadline, &flag, self.progress)?;
        for name in &self.options.no_addons {
            addon::remove(&api, name, waiting.deadline)?;
            addon::forget(&access.dir, name)?;
        }
        step.done(access.profile.addons.join(", "));
        self.stage("addons");
        let step = self.progress.step("Wait for the node");
        let node = waiting.node_ready(&step)?;
        step.done("Ready");
        self.stage("node");
        let step = self.progress.step("Wait for the controllers");
        waiting.takes_pods(&step)?;
        step.done("pods are admitted");
        self.stage("controllers");
        let step = self.progress.step("Wait for the add-ons");
        waiting.addons(&mut rollouts, &step)?;
        step.done("at work");
        self.stage("rollouts");
        let step = self.progress.step("Verify the processes");
        provision::verify(ssh)?;
        step.done(format!("{} run", provision::PROCESSES.len()));
        Ok(node.kubelet_version)
    }
}
