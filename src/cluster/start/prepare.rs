//! The first step of `start`: everything that can be told before anything is made, and the profile
//! that says what is wanted.

use crate::addon::{self, Folder};
use crate::cluster::Access;
use crate::cluster::addons;
use crate::cluster::machine::preflight;
use crate::cluster::machine::resources::Names;
use crate::cluster::operations::throwaway;
use crate::cluster::start::Start;
use crate::error::Result;
use crate::fsutil;
use crate::hypervisor::{Acceleration, HostInfo, Hypervisor, State};
use crate::kubeconfig;
use crate::profile::{self, FILE_VERSION, Profile};
use crate::store::ProfileDir;
use crate::units::Mebibytes;

/// What the checks before the start have found.
pub(crate) struct Prepared {
    pub(crate) host: HostInfo,
    pub(crate) acceleration: Acceleration,
    /// The machine ran, or was paused, before this start.
    pub(crate) running: bool,
    /// The cluster is made by this start.
    pub(crate) created: bool,
}

/// Whether the machine runs, or can go on. One that was killed half loaded never would, and has
/// done nothing yet: it is ended, and what it was loaded from is still there.
fn settle_machine(hypervisor: &dyn Hypervisor, names: &Names) -> Result<bool> {
    let found = hypervisor.find(&names.domain)?;
    if !found.is_some_and(|domain| domain.state.is_active()) {
        return Ok(false);
    }
    if hypervisor.is_half_loaded(&names.domain)? {
        hypervisor.destroy(&names.domain)?;
        return Ok(false);
    }
    Ok(true)
}

/// Takes back what a start has made that was cut short before the machine ran: keys of a template
/// and a disk over another one's are no good to a start that begins in another way.
fn make_anew(hypervisor: &dyn Hypervisor, names: &Names, dir: &ProfileDir) -> Result<()> {
    hypervisor.destroy(&names.domain)?;
    if hypervisor.has_pool(&names.pool)? {
        for volume in [&names.disk, &names.seed] {
            hypervisor.delete_volume(&names.pool, volume)?;
        }
    }
    fsutil::remove_all(&dir.pki())?;
    fsutil::remove_all(&dir.handover())
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
        disk.clone_into(&mut profile.disk);
    }
    Ok(())
}

impl Start<'_> {
    /// Checks everything that can be checked, then settles the profile and saves it.
    pub(crate) fn prepare(
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
            None if self.options.own_kubeconfig => self.store.profile_dir(self.name).kubeconfig(),
            None => kubeconfig::default_path()?,
        };
        preflight::check_kubeconfig(self.store, self.name, &kubeconfig)?;
        let (acceleration, reason) =
            preflight::acceleration(self.options.accel, existing.as_ref(), &host)?;
        let dir = self.store.profile_dir(self.name);
        let never_ran = dir.never_ran().exists();
        let created = existing.is_none() || never_ran;
        let brought = addons::brought(self.options, existing.as_ref())?;
        let running = !created && settle_machine(hypervisor, &names)?;
        if !running {
            let has = existing.as_ref().map(|p| Mebibytes(p.memory_mib));
            let memory = self.options.memory.or(has);
            if let Some(warning) = preflight::check_memory_left(memory, &host)? {
                self.progress.warn(&warning);
            }
            let crowd = self.crowd(hypervisor, acceleration, host.cpus);
            if let Some(warning) = crowd {
                self.progress.warn(&warning);
            }
        }
        let mut profile = match existing {
            Some(mut profile) => {
                throwaway::adopt(&dir)?;
                if never_ran {
                    make_anew(hypervisor, &Names::new(self.store, &profile), &dir)?;
                } else {
                    follow_disk(hypervisor, &mut profile, &names)?;
                }
                preflight::change_profile(
                    &mut profile,
                    self.options,
                    acceleration,
                    &host,
                    running || dir.suspended().exists(),
                )?;
                if let Some((version, _)) = profile::earlier(&dir) {
                    self.progress.note(&format!(
                        "the profile's file was of version {version} and is now of version \
                         {FILE_VERSION}; the earlier one stays as {}",
                        dir.earlier_profile(version).display()
                    ));
                }
                profile.save(&dir)?;
                profile
            }
            None => {
                // What is there without a profile is a fork's that was cut short.
                throwaway::clear(&dir)?;
                self.new_profile(uri, acceleration, &host, kubeconfig)?
            }
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
            running,
            created,
        };
        Ok((Access { profile, dir }, prepared))
    }

    /// What to warn of where more nodes are at work than the host has processors to emulate. That
    /// they cannot be listed is no reason not to start.
    fn crowd(
        &self,
        hypervisor: &dyn Hypervisor,
        acceleration: Acceleration,
        processors: u32,
    ) -> Option<String> {
        let mut all = hypervisor.list_owned().unwrap_or_default();
        all.retain(|domain| domain.state == State::Running);
        let owners = all.iter().filter_map(|domain| domain.owner.as_ref());
        let own = owners.filter(|owner| owner.home == self.store.home());
        let own: Vec<String> = own.map(|owner| owner.profile.clone()).collect();
        preflight::check_processors_left(acceleration, processors, all.len(), &own)
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
        let dir = self.store.profile_dir(self.name);
        // Before the profile, without which it means nothing.
        fsutil::create_private_dir(dir.root())?;
        fsutil::write_atomic(&dir.never_ran(), b"", 0o600)?;
        profile.save(&dir)?;
        Ok(profile)
    }
}
