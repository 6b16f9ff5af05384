//! One virtual machine on one host: a libvirt domain with its disk, seed, console and channel. Knows
//! no Kubernetes.

pub(crate) mod domain;
pub(crate) mod host;
pub(crate) mod keys;
pub(crate) mod links;
pub(crate) mod names;
pub(crate) mod pool_owner;
pub(crate) mod ports;
pub(crate) mod room;
pub(crate) mod watch;

use std::path::PathBuf;

use uuid::Uuid;

use crate::cluster::machine::host::Host;
use crate::cluster::machine::names::Names;
use crate::error::{Error, Result};
use crate::hypervisor::{self, Domain, Foreign, Identity, PortForward, State};
use crate::name::ProfileName;
use crate::profile::{NodeProfile, Profile};
use crate::remote::NodeFile;
use crate::store::ProfileDir;

/// One machine of a cluster on its host. Each method that looks at the domain or changes it checks
/// first that it is this profile's own: by the mark with home and profile, and by the UUID.
#[derive(Clone)]
pub(crate) struct Machine<'a> {
    pub(crate) host: &'a Host<'a>,
    pub(crate) names: Names,
    profile: ProfileName,
    uuid: Option<Uuid>,
}

impl<'a> Machine<'a> {
    /// Returns the machine of a cluster's first node.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) when the profile's UUID is damaged.
    pub(crate) fn of(host: &'a Host<'a>, profile: &Profile) -> Result<Self> {
        Machine::of_node(host, profile, profile.first())
    }

    /// Returns the machines of all of a cluster's nodes, in their order.
    ///
    /// # Errors
    /// As [`Machine::of`].
    pub(crate) fn all(host: &'a Host<'a>, profile: &Profile) -> Result<Vec<Self>> {
        let nodes = profile.nodes.iter();
        nodes
            .map(|node| Machine::of_node(host, profile, node))
            .collect()
    }

    /// Returns the machine of one of a cluster's nodes.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) when the profile's UUID is damaged.
    pub(crate) fn of_node(
        host: &'a Host<'a>,
        profile: &Profile,
        node: &NodeProfile,
    ) -> Result<Self> {
        Ok(Machine {
            host,
            names: Names::of_node(&profile.name, node),
            profile: profile.name.clone(),
            uuid: Some(node.uuid()?),
        })
    }

    /// Returns the first machine of a cluster whose profile is lost or does not exist yet: the domain's mark
    /// alone says whose it is.
    pub(crate) fn without_profile(host: &'a Host<'a>, profile: &ProfileName) -> Self {
        Machine {
            host,
            names: Names::of(profile),
            profile: profile.clone(),
            uuid: None,
        }
    }

    /// Returns that machine, and those of further nodes whose domains have names and marks of this cluster.
    ///
    /// # Errors
    /// [`Kind::Hypervisor`](crate::error::Kind::Hypervisor) when libvirt does not answer.
    pub(crate) fn all_without_profile(
        host: &'a Host<'a>,
        profile: &ProfileName,
    ) -> Result<Vec<Self>> {
        let first = Machine::without_profile(host, profile);
        let further = format!("{}.", first.names.domain);
        let domains = host.libvirt().list_owned()?.into_iter();
        let domains = domains.filter(|domain| domain.name.starts_with(&further));
        let others = domains.map(|domain| Machine {
            names: Names::of_domain(domain.name),
            ..first.clone()
        });
        let others: Vec<_> = others
            .filter(|m| matches!(m.foreign_owner(), Ok(None)))
            .collect();
        Ok([first].into_iter().chain(others).collect())
    }

    /// Checks that libvirt has no domain with this machine's name, which a new cluster gets.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if it has one, and as [`Machine::find`].
    pub(crate) fn require_absent(&self) -> Result<()> {
        match self.find()? {
            None => Ok(()),
            Some(domain) => Err(Error::state(format!(
                "libvirt still has the domain `{}`, but kubby's files for it are missing",
                domain.name
            ))
            .with_hint(format!("kubby delete{} removes it", self.flag()))),
        }
    }

    /// Returns the flag that selects the cluster, for commands in messages.
    pub(crate) fn flag(&self) -> String {
        self.profile.flag()
    }

    /// Finds the domain; `None` where there is none of its name.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) for a domain that is not this profile's own, [`Kind::Hypervisor`](crate::error::Kind::Hypervisor) when libvirt
    /// does not answer.
    pub(crate) fn find(&self) -> Result<Option<Domain>> {
        let Some(domain) = self.host.libvirt().find(&self.names.domain)? else {
            return Ok(None);
        };
        match self.foreign(&domain) {
            None => Ok(Some(domain)),
            Some(why) => Err(self.refuse(&why)),
        }
    }

    /// Returns why the domain with this machine's name is not this profile's; `None` if it is, or if
    /// there is none.
    ///
    /// # Errors
    /// [`Kind::Hypervisor`](crate::error::Kind::Hypervisor) when libvirt does not answer.
    pub(crate) fn foreign_owner(&self) -> Result<Option<Foreign>> {
        let domain = self.host.libvirt().find(&self.names.domain)?;
        Ok(domain.and_then(|domain| self.foreign(&domain)))
    }

    fn foreign(&self, domain: &Domain) -> Option<Foreign> {
        let identity = Identity {
            uuid: self.uuid,
            profile: self.profile.to_string(),
            home: self.host.store().home().to_owned(),
        };
        hypervisor::foreign(domain, &identity)
    }

    /// Returns the error for a domain that is not this profile's, with the cause and the remedy.
    pub(crate) fn refuse(&self, why: &Foreign) -> Error {
        let (domain, flag) = (&self.names.domain, self.profile.flag());
        let error = Error::state(format!(
            "libvirt has a domain `{domain}` that is not this cluster's: {why}"
        ));
        match why {
            Foreign::Home(home) => error
                .with_hint(self.host.store().home_reason())
                .with_hint(format!(
                    "KUBBY_HOME={} kubby status{flag} shows that cluster",
                    crate::remote::quote(&home.display().to_string())
                ))
                .with_hint("choose another name with --profile for a cluster of this home"),
            Foreign::Earlier(_) => error.with_hint(format!(
                "kubby delete{flag} removes what this home has of it; the domain stays"
            )),
            Foreign::Unmarked | Foreign::Profile(_) => error.with_hint(
                "choose another name with --profile, or rename that domain with `virsh domrename`",
            ),
        }
    }

    /// Returns the domain's state; a domain that does not exist is off.
    ///
    /// # Errors
    /// As [`Machine::find`].
    pub(crate) fn state(&self) -> Result<State> {
        Ok(self.find()?.map_or(State::ShutOff, |domain| domain.state))
    }

    /// Returns the volume that libvirt has as the machine's disk, which counts: a process may have been killed
    /// between freezing a disk and recording the new one. `None` where there is no domain.
    ///
    /// # Errors
    /// [`Kind::Hypervisor`](crate::error::Kind::Hypervisor) when libvirt does not answer.
    pub(crate) fn disk(&self) -> Result<Option<String>> {
        let path = self.host.libvirt().root_disk(&self.names.domain)?;
        let name = path.as_deref().and_then(|path| path.file_name()?.to_str());
        Ok(name.map(str::to_owned))
    }

    /// Returns the domain, which has to run or to be paused.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) when it is off, and as [`Machine::find`].
    pub(crate) fn require_active(&self) -> Result<Domain> {
        self.require(|state| state.is_active(), "")
    }

    /// Returns the domain, which has to run; `so` completes the error.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) when it is off or paused, and as [`Machine::find`].
    pub(crate) fn require_running(&self, so: &str) -> Result<Domain> {
        self.require(|state| state == State::Running, so)
    }

    fn require(&self, good: impl FnOnce(State) -> bool, so: &str) -> Result<Domain> {
        match self.find()? {
            Some(domain) if good(domain.state) => Ok(domain),
            _ => Err(
                Error::state(format!("the cluster `{}` is not running{so}", self.profile))
                    .with_hint(format!("kubby start{}", self.flag())),
            ),
        }
    }

    /// Powers the machine off; one that is off or does not exist is fine.
    ///
    /// # Errors
    /// As [`Machine::find`]; [`Kind::Hypervisor`](crate::error::Kind::Hypervisor) when QEMU cannot be ended.
    pub(crate) fn power_off(&self) -> Result<()> {
        if self.find()?.is_some() {
            self.host.libvirt().destroy(&self.names.domain)?;
        }
        Ok(())
    }

    /// Powers the machine off and removes its domain; returns whether there was one.
    ///
    /// # Errors
    /// As [`Machine::power_off`].
    pub(crate) fn undefine(&self) -> Result<bool> {
        if self.find()?.is_none() {
            return Ok(false);
        }
        self.host.libvirt().destroy(&self.names.domain)?;
        self.host.libvirt().undefine(&self.names.domain)?;
        Ok(true)
    }

    /// Returns whether the machine waits for saved memory that will never come, because the kubby that
    /// loaded it was killed.
    ///
    /// # Errors
    /// [`Kind::Hypervisor`](crate::error::Kind::Hypervisor) when libvirt or QEMU does not answer.
    pub(crate) fn is_half_loaded(&self) -> Result<bool> {
        self.host.libvirt().is_half_loaded(&self.names.domain)
    }

    /// Opens those of the machine's own forwards that are not open yet.
    ///
    /// # Errors
    /// [`Kind::Preflight`](crate::error::Kind::Preflight) when QEMU cannot listen on a port, [`Kind::Hypervisor`](crate::error::Kind::Hypervisor) when the machine
    /// does not run.
    pub(crate) fn open_forwards(&self, wanted: &[PortForward]) -> Result<()> {
        let libvirt = self.host.libvirt();
        let open = libvirt.forwards(&self.names.domain)?;
        for forward in wanted.iter().filter(|forward| !open.contains(forward)) {
            libvirt.add_forward(&self.names.domain, *forward)?;
        }
        Ok(())
    }

    /// Returns the path of the host's channel into the node.
    pub(crate) fn channel(&self) -> PathBuf {
        self.host.file(&self.names.channel)
    }

    /// Creates the node's SSH identity and the seed, which brings it and `files` into the node, where
    /// they are missing. The caller holds the shared lock.
    ///
    /// # Errors
    /// [`Kind::Hypervisor`](crate::error::Kind::Hypervisor) when libvirt refuses.
    pub(crate) fn ensure_seed(&self, dir: &ProfileDir, files: &[NodeFile]) -> Result<()> {
        let new_identity = keys::ensure(dir)?;
        if new_identity || !self.host.volumes()?.has_whole(&self.names.seed) {
            let seed = keys::seed(dir, files)?;
            let libvirt = self.host.libvirt();
            libvirt.upload_bytes(self.host.pool(), &self.names.seed, &seed)?;
        }
        Ok(())
    }

    /// Removes the seed, the console's log and the channel; disks stay as long as something builds on
    /// them. The caller holds the shared lock. Returns whether there were any.
    ///
    /// # Errors
    /// As [`Host::delete_volume`].
    pub(crate) fn remove_own_files(&self) -> Result<bool> {
        let host = self.host;
        if !host.has_own_pool()? {
            return Ok(false);
        }
        // QEMU made the console's log, so libvirt lists it only after a refresh.
        host.libvirt().refresh_pool(host.pool())?;
        let mut any = false;
        for volume in [&self.names.seed, &self.names.console] {
            any |= host.delete_volume(volume)?;
        }
        if host.reaches_files() {
            any |= host.libvirt().remove_channel(&self.channel())?;
        }
        Ok(any)
    }

    /// Reads the serial console's log since the last start.
    ///
    /// # Errors
    /// As [`Machine::find`], and [`Kind::State`](crate::error::Kind::State) for a pool of another home; [`Kind::Hypervisor`](crate::error::Kind::Hypervisor) when
    /// the log exists and cannot be read.
    pub(crate) fn console(&self) -> Result<String> {
        self.find()?;
        self.host.refuse_foreign_pool()?;
        self.host
            .libvirt()
            .read_log(self.host.pool(), &self.names.console)
    }
}
