//! The state of the host in memory, which all homes share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{self, Content, Volume};
use super::guest;
use crate::error::{Error, Result};
use crate::hypervisor::{DomainSpec, PortForward};

/// The URI of the one libvirt.
pub(super) const URI: &str = "qemu:///session";

/// A storage pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pool {
    pub(super) active: bool,
    pub(super) target: PathBuf,
}

/// A domain: its definition for later starts, and its present run.
#[derive(Clone)]
pub(super) struct Domain {
    pub(super) spec: DomainSpec,
    /// It has kubby's mark.
    pub(super) marked: bool,
    pub(super) run: Option<Run>,
}

/// The run of a machine.
#[derive(Clone)]
pub(super) struct Run {
    pub(super) paused: bool,
    /// It waits for saved memory.
    pub(super) half_loaded: bool,
    pub(super) disk: PathBuf,
    pub(super) mapped: Option<PathBuf>,
    pub(super) forwards: Vec<PortForward>,
    /// The public key that the SSH server has read.
    pub(super) host_key: Arc<str>,
}

/// A machine's memory in a file.
#[derive(Clone)]
pub(super) struct Memory {
    /// The version of the disk that it belongs to.
    pub(super) version: u64,
    pub(super) host_key: Arc<str>,
}

/// All that libvirt has.
#[derive(Default)]
pub(super) struct State {
    pub(super) pools: BTreeMap<String, Pool>,
    pub(super) domains: BTreeMap<String, Domain>,
    pub(super) volumes: BTreeMap<PathBuf, Volume>,
    pub(super) memories: BTreeMap<PathBuf, Memory>,
    /// Things that must never happen, and have.
    pub(super) violations: Vec<String>,
    last: u64,
}

/// The host in memory.
#[derive(Default)]
pub(super) struct World {
    state: Mutex<State>,
}

impl World {
    /// Locks the state. A process is never killed while it has the lock.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a running machine listens on a port of the host.
    pub(super) fn is_port_taken(&self, port: u16) -> bool {
        self.state().listener(port).is_some()
    }
}

impl State {
    /// Returns a number that was not returned before.
    pub(super) fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Returns the folder of a pool.
    pub(super) fn target(&self, pool: &str) -> Result<PathBuf> {
        let pool = self.pools.get(pool);
        let pool = pool.ok_or_else(|| Error::hypervisor("there is no such storage pool"))?;
        Ok(pool.target.clone())
    }

    /// Returns the name of the domain that listens on a port of the host.
    pub(super) fn listener(&self, port: u16) -> Option<&str> {
        let listens = |run: &Run| run.forwards.iter().any(|forward| forward.host == port);
        let mut found = self.domains.iter();
        let found = found.find(|(_, domain)| domain.run.as_ref().is_some_and(listens))?;
        Some(found.0)
    }

    /// Forgets the files of saved states that are gone: kubby removes them itself where a saving failed.
    pub(super) fn refresh(&mut self) {
        let is_state = |path: &Path| path.extension().is_some_and(|e| e == "mem" || e == "dev");
        self.volumes
            .retain(|path, _| !is_state(path) || path.exists());
    }

    /// Returns the content of a volume that is a node's disk.
    pub(super) fn content(&mut self, disk: &Path) -> Result<&mut Content> {
        let volume = self.volumes.get_mut(disk).and_then(|v| v.disk.as_mut());
        volume.ok_or_else(|| Error::hypervisor(format!("there is no disk {}", disk.display())))
    }

    /// Returns the content of the disk of a machine that runs.
    pub(super) fn running(&mut self, domain: &str) -> Option<&mut Content> {
        let run = self.domains.get(domain)?.run.as_ref()?;
        if run.paused || run.half_loaded {
            return None;
        }
        let disk = run.disk.clone();
        self.content(&disk).ok()
    }

    /// Makes an overlay of a disk.
    pub(super) fn make_overlay(&mut self, path: &Path, backing: &Path) -> Result<()> {
        let content = self.content(backing)?.clone();
        disk::mark_version(path, content.version);
        let volume = Volume {
            backing: Some(backing.to_owned()),
            backing_version: content.version,
            disk: Some(content),
            ..Volume::default()
        };
        self.volumes.insert(path.to_owned(), volume);
        Ok(())
    }

    /// Lets a machine's processors run: from here on it changes its disk.
    pub(super) fn let_run(&mut self, name: &str) {
        let Some(run) = self.domains.get_mut(name).and_then(|d| d.run.as_mut()) else {
            return;
        };
        run.paused = false;
        let disk = run.disk.clone();
        if run.half_loaded {
            let text = format!("{name} runs without the memory that it waits for");
            self.violations.push(text);
        }
        if let Some(changed) = self.changed_below(&disk) {
            let text = format!("{name} runs on {}, which has changed", changed.display());
            self.violations.push(text);
        }
        let others = self.domains.iter().filter(|(other, domain)| {
            *other != name && domain.run.as_ref().is_some_and(|run| run.disk == disk)
        });
        if others.count() > 0 {
            let text = format!("{name} writes to another machine's disk");
            self.violations.push(text);
        }
        let version = self.next();
        if let Ok(content) = self.content(&disk) {
            content.version = version;
            disk::mark_version(&disk, version);
        }
    }

    /// Returns a disk that an overlay builds on and that was written to since.
    fn changed_below(&self, disk: &Path) -> Option<PathBuf> {
        let volume = self.volumes.get(disk)?;
        let backing = volume.backing.as_deref()?;
        let version = self.volumes.get(backing)?.disk.as_ref()?.version;
        match version == volume.backing_version {
            true => self.changed_below(backing),
            false => Some(backing.to_owned()),
        }
    }

    /// Boots a defined machine that is off.
    ///
    /// # Errors
    /// When a volume is missing or a port is taken.
    pub(super) fn boot(&mut self, name: &str) -> Result<()> {
        let spec = self.spec(name)?;
        for path in [&spec.kernel, &spec.initrd, &spec.components, &spec.seed] {
            if !self
                .volumes
                .get(Path::new(path))
                .is_some_and(|v| v.uploaded)
            {
                return Err(Error::hypervisor(format!(
                    "there is no whole volume {path}"
                )));
            }
        }
        self.check_ports(&spec.forwards)?;
        let seed = self.volumes[Path::new(&spec.seed)].clone();
        let disk = PathBuf::from(&spec.root_disk);
        let content = self.content(&disk)?;
        guest::unpack_seed(content, &seed);
        let run = Run {
            paused: false,
            half_loaded: false,
            host_key: guest::host_key(content),
            disk,
            mapped: None,
            forwards: spec.forwards,
        };
        self.domain(name)?.run = Some(run);
        self.let_run(name);
        Ok(())
    }

    /// Returns a domain.
    pub(super) fn domain(&mut self, name: &str) -> Result<&mut Domain> {
        let domain = self.domains.get_mut(name);
        domain.ok_or_else(|| Error::hypervisor(format!("there is no domain {name}")))
    }

    /// Returns a domain's definition.
    pub(super) fn spec(&mut self, name: &str) -> Result<DomainSpec> {
        Ok(self.domain(name)?.spec.clone())
    }

    /// Returns the run of a domain.
    pub(super) fn run(&mut self, name: &str) -> Result<&mut Run> {
        let run = self.domain(name)?.run.as_mut();
        run.ok_or_else(|| Error::hypervisor(format!("the domain {name} does not run")))
    }

    /// Checks that no machine listens on these ports.
    pub(super) fn check_ports(&self, forwards: &[PortForward]) -> Result<()> {
        match forwards.iter().find(|f| self.listener(f.host).is_some()) {
            Some(f) => Err(Error::preflight(format!("the port {} is taken", f.host))),
            None => Ok(()),
        }
    }

    /// Notes it where a volume that is about to be deleted is in use.
    pub(super) fn note_deletion(&mut self, path: &Path) {
        let above = self.volumes.iter();
        let above = above.filter(|(_, volume)| volume.backing.as_deref() == Some(path));
        let above = above.map(|(above, _)| above.display().to_string());
        let using = self.domains.iter().filter(|(_, domain)| {
            let run = domain.run.as_ref();
            run.is_some_and(|run| run.disk == path || run.mapped.as_deref() == Some(path))
        });
        let users: Vec<String> = above.chain(using.map(|(name, _)| name.clone())).collect();
        if !users.is_empty() {
            let text = format!("{} is deleted, which {users:?} need", path.display());
            self.violations.push(text);
        }
    }
}
