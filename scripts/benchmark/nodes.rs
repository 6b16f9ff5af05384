//! Measures clusters of three nodes, and one node more.

use std::time::Instant;

use kubby::testing::error::{Error, Kind, Result};

use crate::process;
use crate::sample::{Sample, Unit};
use crate::site::Site;

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

    /// Three nodes that boot.
    ///
    /// # Errors
    /// When they are not ready in time.
    pub fn cold(&self, round: u32) -> Result<Sample> {
        let profile = self.site.profile("three-cold");
        let _alone = self.site.alone()?;
        let [workers, two] = THREE;
        let sample = timed("3 nodes cold", round, || {
            self.site.start(&profile, &[workers, two, "--no-template"])
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
        let add = timed("node add", round, || kubby(&["node", "add"]))?;
        let delete = timed("node delete", round, || {
            kubby(&["node", "delete", "worker-3"])
        })?;
        let fork = timed("3 nodes fork", round, || kubby(&["fork", copy]))?;
        site.delete(copy)?;
        let began = Instant::now();
        kubby(&["suspend"])?;
        let suspended = began.elapsed().as_secs_f64();
        let mut resumed = timed("3 nodes resume", round, || site.start_again(profile))?;
        resumed.quantity("suspend itself", Unit::Seconds, suspended);
        kubby(&["stop"])?;
        let again = timed("3 nodes boot again", round, || site.start_again(profile))?;
        Ok(vec![warm, add, delete, fork, resumed, again])
    }
}

/// Times a command that returns when everything is ready.
fn timed(
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
