//! Measures clusters of three nodes, and one node more.

use std::time::Instant;

use kubby::testing::error::{Error, Kind, Result};

use crate::links;
use crate::observe::{KUBECTL, Observer, Prober};
use crate::process;
use crate::sample::{Sample, Unit};
use crate::site::Site;
use crate::starts::START;

/// The flags of a control plane and two workers.
const THREE: [&str; 2] = ["--workers", "2"];

/// Clusters of three nodes.
pub struct Nodes<'a> {
    site: &'a Site,
}

/// Whether this kubby has clusters of several nodes.
pub fn available(site: &Site) -> bool {
    site.has("node", None)
}

impl<'a> Nodes<'a> {
    /// Makes the templates; not measured.
    ///
    /// # Errors
    /// When kubby cannot make them, or the first start fails.
    pub fn prepare(site: &'a Site) -> Result<Self> {
        if !available(site) {
            return Err(Error::new(Kind::State, "not in this build"));
        }
        let profile = site.profile("three-first");
        let _alone = site.alone()?;
        site.start(&profile, &THREE)?;
        site.delete(&profile)?;
        Ok(Nodes { site })
    }

    /// Three nodes that boot, of a size that no template has: as with the first start of all, the second worker is
    /// a copy of the first one, and templates are saved.
    ///
    /// # Errors
    /// When they are not ready in time.
    pub fn cold(&self, round: u32) -> Result<Sample> {
        let profile = self.site.profile("three-cold");
        let _alone = self.site.alone()?;
        let [workers, two] = THREE;
        let memory = format!("{}MiB", self.site.memory_mib() + u64::from(round));
        let sample = timed("3 nodes cold", round, || {
            self.site
                .start(&profile, &[workers, two, "--worker-memory", &memory])
        });
        let deleted = self.site.delete(&profile);
        let sample = sample?;
        deleted.map(|()| sample)
    }

    /// Three nodes that are copies, with what an idle worker of them costs; one node more, which is deleted;
    /// a fork of the three; and the three after they were suspended, and after they were stopped.
    ///
    /// # Errors
    /// When one of them is not ready in time.
    pub fn warm(&self, round: u32) -> Result<Vec<Sample>> {
        let (profile, copy) = (self.site.profile("three"), self.site.profile("three-fork"));
        let _alone = self.site.alone()?;
        let measured = self.copies(round, &profile, &copy);
        let ends = [&copy, &profile].map(|profile| self.site.delete(profile));
        let samples = measured?;
        ends.into_iter().collect::<Result<Vec<()>>>()?;
        Ok(samples)
    }

    fn copies(&self, round: u32, profile: &str, copy: &str) -> Result<Vec<Sample>> {
        let site = self.site;
        let kubby = |args: &[&str]| site.kubby(profile, args).map(|_| serde_json::Value::Null);
        let mut warm = timed("3 nodes warm", round, || site.start(profile, &THREE))?;
        let worker = format!("{}.worker-1", Site::domain(profile));
        process::idle_cost(&worker, None, &mut warm)?;
        let between = links::between(site, profile, round)?;
        let before = process::available_memory();
        let mut add = timed("node add", round, || kubby(&["node", "add"]))?;
        let added = format!("{}.worker-3", Site::domain(profile));
        process::idle_cost(&added, before, &mut add)?;
        let delete = timed("node delete", round, || {
            kubby(&["node", "delete", "worker-3"])
        })?;
        let fork = self.answered(copy, "3 nodes fork", round, || kubby(&["fork", copy]))?;
        site.delete(copy)?;
        let began = Instant::now();
        kubby(&["suspend"])?;
        let suspended = began.elapsed().as_secs_f64();
        let again = || site.start_again(profile);
        let mut resumed = self.answered(profile, "3 nodes resume", round, again)?;
        resumed.quantity("suspend itself", Unit::Seconds, suspended);
        kubby(&["stop"])?;
        let again = timed("3 nodes boot again", round, again)?;
        Ok(vec![warm, between, add, delete, fork, resumed, again])
    }

    /// Times a command, and when kubectl answers meanwhile.
    fn answered(
        &self,
        profile: &str,
        variant: &str,
        round: u32,
        command: impl FnOnce() -> Result<serde_json::Value>,
    ) -> Result<Sample> {
        let prober = Prober::of_profile(self.site.clusters_home(), profile)?;
        let limit = self.site.limit(START);
        let observer = Observer::begin(prober, &[KUBECTL], Instant::now(), limit);
        let mut sample = timed(variant, round, command)?;
        observer.end(&mut sample)?;
        Ok(sample)
    }
}

/// Times a command that returns when everything is ready.
///
/// # Errors
/// Those of the command.
pub fn timed(
    variant: &str,
    round: u32,
    command: impl FnOnce() -> Result<serde_json::Value>,
) -> Result<Sample> {
    let mut sample = Sample::new(variant, round);
    let began = Instant::now();
    sample.report = command()?;
    sample.stage("command done", began.elapsed().as_secs_f64());
    sample.total();
    Ok(sample)
}
