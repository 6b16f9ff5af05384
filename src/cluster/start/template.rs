//! Warm starts: the first healthy start of a specification saves the machine as a template, and
//! the next cluster of that specification begins as a copy of it.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::addon::Addon;
use crate::cluster::Access;
use crate::cluster::Templates;
use crate::cluster::addons;
use crate::cluster::machine::resources::{self, Names};
use crate::cluster::saved::identity;
use crate::cluster::saved::load;
use crate::cluster::saved::save::{Capture, Purpose};
use crate::cluster::saved::state::{self, Saved, SavedDir};
use crate::cluster::start::Start;
use crate::cluster::start::prepare::Prepared;
use crate::error::{Error, Kind, Result};
use crate::fsutil;
use crate::hypervisor::{Acceleration, HostInfo, Hypervisor};
use crate::pki::{self, Pki};
use crate::provision;
use crate::remote::Ssh;
use crate::store::ProfileDir;
use crate::trace;
use crate::units::Mebibytes;

/// Changes when templates of an earlier kubby must not be used any more, for reasons that are
/// in none of the parts of [`Specification`].
const LAYOUT: u32 = 1;

/// How long the SSH server may take to read its keys anew, with hardware virtualisation.
const KEYS_LIMIT: Duration = Duration::from_secs(10);

/// Everything that goes into a machine before it is handed to the user; its digest is the
/// template's key.
#[derive(Serialize)]
struct Specification<'a> {
    layout: u32,
    kubby: &'a str,
    kubernetes: &'a str,
    node_image: &'a str,
    components: &'a str,
    cpus: u32,
    memory_mib: u64,
    disk_mib: u64,
    acceleration: &'a str,
    kernel_args: &'a [String],
    plan: String,
    addons: Vec<(String, String)>,
    archives: Vec<String>,
}

/// A template that a start can use or make.
#[derive(Debug)]
pub(crate) struct Template {
    key: String,
    dir: SavedDir,
}

impl Template {
    /// The mark that the last copy was too late.
    fn doubted(&self) -> PathBuf {
        self.dir.root.join("doubted")
    }

    /// Whether a failure of its copy means that it is no good. One that was only too late for the
    /// first time does not.
    fn goes_after(&self, why: &Error) -> bool {
        let late = matches!(why.kind(), Kind::NodeUnreachable | Kind::Unhealthy);
        !late || self.doubted().exists()
    }

    /// Notes that a copy was too late.
    fn doubt(&self) -> Result<()> {
        fsutil::write_atomic(&self.doubted(), b"", 0o600)
    }

    /// Notes that a copy was in time.
    pub(crate) fn trust(&self) -> Result<()> {
        fsutil::remove_all(&self.doubted())
    }
}

impl Start<'_> {
    /// The template of this start's specification; nothing when templates are not wanted or not
    /// possible. The assets have to be settled.
    pub(crate) fn template(&self, access: &Access, host: &HostInfo) -> Result<Option<Template>> {
        if self.options.templates == Templates::Off || load::obstacle(host).is_some() {
            return Ok(None);
        }
        let profile = &access.profile;
        let plan = self.plan(access, &Pki::blank())?;
        let addons = addons::enabled(profile, &access.dir)?;
        let digest = |addon: &Addon| (addon.name.clone(), addon.digest());
        let specification = Specification {
            layout: LAYOUT,
            kubby: env!("CARGO_PKG_VERSION"),
            kubernetes: &profile.kubernetes_version,
            node_image: &profile.assets.node_image,
            components: &profile.assets.components,
            cpus: profile.cpus,
            memory_mib: profile.memory_mib,
            disk_mib: profile.disk_mib,
            acceleration: &profile.acceleration,
            kernel_args: &profile.kernel_args,
            plan: provision::digest(&plan),
            addons: addons.iter().map(digest).collect(),
            archives: self.archive_marks(),
        };
        let key = state::digest_of(&specification)?;
        let dir = SavedDir::at(self.store.templates_dir().join(&key));
        Ok(Some(Template { key, dir }))
    }

    /// Makes the machine a copy of the template and lets it run. Returns `false` where there is
    /// no template, or none that can be used; what was begun is undone then.
    pub(crate) fn copy_of(
        &self,
        template: &Template,
        hypervisor: &dyn Hypervisor,
        access: &mut Access,
        prepared: &Prepared,
    ) -> Result<bool> {
        let names = Names::new(self.store, &access.profile);
        let found = match template.dir.load() {
            // A first start has no template, and need not hear of that.
            Ok(None) => return Ok(false),
            Ok(Some(saved)) => Ok(saved),
            Err(e) => Err(e),
        };
        let step = self.progress.step("Start from the warm template");
        let copied = found.and_then(|saved| {
            load::check(&saved, &names, &prepared.host)?;
            load::check_certificates(&template.dir.files())?;
            self.copy_template(template, &saved, hypervisor, access, prepared.acceleration)
        });
        match copied {
            Ok(()) => {
                // The copy has the images already.
                self.archives.borrow_mut().clear();
                step.done(&template.key);
                Ok(true)
            }
            Err(e) if e.kind() == Kind::Interrupted => Err(e),
            Err(e) => {
                step.skipped("it cannot be used");
                self.give_up_template(template, hypervisor, access, &e)?;
                Ok(false)
            }
        }
    }

    fn copy_template(
        &self,
        template: &Template,
        saved: &Saved,
        hypervisor: &dyn Hypervisor,
        access: &mut Access,
        acceleration: Acceleration,
    ) -> Result<()> {
        let names = &Names::new(self.store, &access.profile);
        let span = trace::span("make the machine's own volumes");
        let shared = self.store.lock_shared(|| {})?;
        let size = Mebibytes(access.profile.disk_mib).bytes();
        hypervisor.create_overlay(&names.pool, &names.disk, &saved.disk, size)?;
        resources::ensure_seed(hypervisor, names, &access.dir, &[])?;
        drop((shared, span));
        let span = trace::span("copy the keys");
        let original = template.dir.files();
        fsutil::copy_private(&original.pki(), &access.dir.pki())?;
        pki::forget_operator(&access.dir.pki())?;
        let borrowed = ProfileDir::at(access.dir.handover());
        identity::copy_keys(&original, &borrowed)?;
        self.free_ports(access)?;
        drop(span);
        let runs = || access.dir.machine_runs();
        load::start(hypervisor, self.store, access, acceleration, saved, runs)
    }

    /// Takes back what a copy of a template has made: the cluster starts cold. The template goes
    /// too, and another one is made, unless the copy was only too late for the first time: that can
    /// be a busy host's doing. Returns whether it went.
    pub(crate) fn give_up_template(
        &self,
        template: &Template,
        hypervisor: &dyn Hypervisor,
        access: &Access,
        why: &Error,
    ) -> Result<bool> {
        let goes = template.goes_after(why);
        self.progress.warn(&format!(
            "the warm template {} cannot be used{} ({why}); starting cold",
            template.key,
            if goes { " and is removed" } else { " now" }
        ));
        let names = Names::new(self.store, &access.profile);
        hypervisor.destroy(&names.domain)?;
        fsutil::remove_all(&access.dir.pki())?;
        fsutil::remove_all(&access.dir.handover())?;
        let _shared = self.store.lock_shared(|| {})?;
        // The seed of a copy brings its keys only; that of a cold start more.
        for volume in [&names.disk, &names.seed] {
            hypervisor.delete_volume(&names.pool, volume)?;
        }
        if goes {
            fsutil::remove_all(&template.dir.root)?;
            crate::cluster::saved::garbage::sweep(hypervisor, self.store, &names.pool, None)?;
        } else {
            template.doubt()?;
        }
        Ok(goes)
    }

    /// Saves the healthy cluster as a template before the user gets it, so that nothing of theirs
    /// is in it. The node has keys of its own for that moment, which the template keeps. That it
    /// cannot be saved is told and is no error.
    pub(crate) fn save_template(
        &self,
        template: &Template,
        hypervisor: &dyn Hypervisor,
        access: &mut Access,
        ssh: &mut Ssh,
    ) -> Result<()> {
        let step = self.progress.step("Save a warm template");
        match self.try_save(template, hypervisor, access, ssh, &step) {
            Ok(saved) => {
                let size = saved.memory.map_or(0, |memory| memory.allocated);
                step.done(crate::units::human_bytes(size));
                Ok(())
            }
            Err(e) if e.kind() == Kind::Interrupted => Err(e),
            Err(e) => {
                step.skipped("not saved");
                self.progress
                    .warn(&format!("the next start will be a cold one too: {e}"));
                Ok(())
            }
        }
    }

    fn try_save(
        &self,
        template: &Template,
        hypervisor: &dyn Hypervisor,
        access: &mut Access,
        ssh: &mut Ssh,
        step: &crate::progress::Step,
    ) -> Result<Saved> {
        let borrowed = ProfileDir::at(access.dir.handover());
        // From here until the node has its own keys back the next start looks for either.
        resources::ensure_ssh_identity(&borrowed)?;
        identity::hand_over(ssh, &resources::ssh_identity(&borrowed)?)?;
        // A server that was saved while it reads its keys would do so in each copy.
        identity::connect_when_read(&access.target_with(&borrowed)?, access.deadline(KEYS_LIMIT))?;
        let capture = Capture {
            hypervisor,
            store: self.store,
            step,
        };
        fsutil::create_private_dir(&self.store.templates_dir())?;
        let saved = capture.take(access, &borrowed, Purpose::Keep, &template.dir);
        identity::hand_over(ssh, &resources::ssh_identity(&access.dir)?)?;
        fsutil::remove_all(borrowed.root())?;
        pki::forget_operator(&template.dir.files().pki())?;
        // Whoever logs in next must not meet it while it reads them.
        identity::connect_when_read(&access.target()?, access.deadline(KEYS_LIMIT))?;
        saved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_whose_copy_is_late_gets_a_second_chance() {
        let tmp = tempfile::tempdir().unwrap();
        let template = Template {
            key: "k".into(),
            dir: SavedDir::at(tmp.path().to_owned()),
        };
        let late = Error::new(Kind::NodeUnreachable, "late");
        assert!(template.goes_after(&Error::new(Kind::Hypervisor, "cut")));
        assert!(!template.goes_after(&late));
        template.doubt().unwrap();
        assert!(template.goes_after(&late));
        template.trust().unwrap();
        assert!(!template.goes_after(&late));
    }
}
