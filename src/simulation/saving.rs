//! libvirt in memory: saved memory, channels and forwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::disk::Volume;
use super::guest;
use super::host::{Libvirt, change};
use super::world::{Memory, Run};
use crate::error::{Error, Kind, Result, ResultExt as _};
use crate::fault;
use crate::hypervisor::{
    Change, DomainSpec, Forwarding, Incoming, PortForward, Saving, channel, saved_stream,
};

impl Forwarding for Libvirt {
    fn forwards(&self, domain: &str) -> Result<Vec<PortForward>> {
        Ok(self.world.state().run(domain)?.forwards.clone())
    }

    fn add_forward(&self, domain: &str, forward: PortForward) -> Result<()> {
        fault::step("add a forward", || {
            let mut state = self.world.state();
            state.check_ports(&[forward])?;
            state.run(domain)?.forwards.push(forward);
            Ok(())
        })
    }

    fn remove_forward(&self, domain: &str, forward: PortForward) -> Result<Change> {
        fault::step("remove a forward", || {
            let mut state = self.world.state();
            let open = &mut state.run(domain)?.forwards;
            let before = open.len();
            open.retain(|f| f.host != forward.host);
            Ok(change(open.len() < before))
        })
    }
}

impl Saving for Libvirt {
    fn pause(&self, domain: &str) -> Result<Change> {
        fault::step("pause", || {
            let mut state = self.world.state();
            let run = state.run(domain)?;
            let was = std::mem::replace(&mut run.paused, true);
            Ok(change(!was))
        })
    }

    fn save_memory(&self, domain: &str, file: &Path) -> Result<()> {
        fault::step("save memory", || {
            fs::write(file, b"QEVM").context(Kind::Hypervisor, || "cannot save".into())?;
            fault::point("midway", "save memory");
            fs::write(file, saved_stream::example(4096, 4096)).unwrap();
            let mut state = self.world.state();
            let run = state.run(domain)?.clone();
            if !run.paused || run.half_loaded {
                return Err(Error::hypervisor("the machine cannot be saved now"));
            }
            let memory = Memory {
                version: state.content(&run.disk)?.version,
                host_key: run.host_key,
            };
            state.memories.insert(file.to_owned(), memory);
            Ok(())
        })
    }

    fn switch_disk(&self, domain: &str, overlay: &Path) -> Result<()> {
        fault::step("switch the disk", || {
            let mut state = self.world.state();
            let frozen = state.run(domain)?.disk.clone();
            if overlay.exists() {
                return Err(Error::hypervisor("the overlay exists"));
            }
            // The machine may be paused at another version than its disk began with.
            let content = state.content(&frozen)?.clone();
            state.make_overlay(overlay, &frozen)?;
            *state.content(overlay)? = content;
            state.run(domain)?.disk = overlay.to_owned();
            let spec = &mut state.domain(domain)?.spec;
            if Path::new(&spec.root_disk) == frozen {
                spec.root_disk = overlay.to_string_lossy().into_owned();
            }
            Ok(())
        })
    }

    fn root_disk(&self, domain: &str) -> Result<Option<PathBuf>> {
        let state = self.world.state();
        Ok(state.domains.get(domain).map(|domain| match &domain.run {
            Some(run) => run.disk.clone(),
            None => PathBuf::from(&domain.spec.root_disk),
        }))
    }

    fn mapped_memory(&self, domain: &str) -> Result<Option<PathBuf>> {
        let state = self.world.state();
        let run = state.domains.get(domain).and_then(|d| d.run.as_ref());
        Ok(run.and_then(|run| run.mapped.clone()))
    }

    fn start_paused_from(&self, spec: &DomainSpec, incoming: &Incoming) -> Result<()> {
        fault::step("load memory", || {
            let (name, pages) = (&spec.name, PathBuf::from(&incoming.memory));
            let disk = PathBuf::from(&spec.root_disk);
            let mut state = self.world.state();
            if state.domain(name)?.run.is_some() || !pages.exists() {
                return Err(Error::hypervisor("the machine cannot be loaded"));
            }
            let memory = state.memories.get(&pages).cloned();
            let memory = memory.ok_or_else(|| Error::hypervisor("the file holds no memory"))?;
            let version = state.content(&disk)?.version;
            if version != memory.version {
                let text = format!("{name} gets memory that does not fit its disk");
                state.violations.push(text);
            }
            state.domain(name)?.run = Some(Run {
                paused: true,
                half_loaded: true,
                disk,
                mapped: Some(pages),
                forwards: Vec::new(),
                host_key: memory.host_key,
            });
            drop(state);
            fault::point("midway", "load memory");
            self.world.state().run(name)?.half_loaded = false;
            Ok(())
        })
    }

    fn is_half_loaded(&self, domain: &str) -> Result<bool> {
        let mut state = self.world.state();
        Ok(state.run(domain).is_ok_and(|run| run.half_loaded))
    }

    fn ensure_channel(&self, at: &Path) -> Result<()> {
        fault::step("make the channel", || channel::ensure(at))
    }

    fn remove_channel(&self, at: &Path) -> Result<bool> {
        fault::step("remove the channel", || channel::remove(at))
    }

    fn run_script(&self, at: &Path, script: &str, _limit: Duration) -> Result<()> {
        fault::step("tell", || {
            let mut state = self.world.state();
            let named = |spec: &DomainSpec| spec.channel.as_deref().map(Path::new) == Some(at);
            let found = state.domains.values().find(|d| named(&d.spec));
            let name = found
                .map(|domain| domain.spec.name.clone())
                .unwrap_or_default();
            let content = state.running(&name);
            let content = content.ok_or_else(|| Error::unreachable("the node does not listen"))?;
            if guest::run_script(content, script) {
                let key = guest::host_key(content);
                state.run(&name)?.host_key = key;
            }
            Ok(())
        })
    }

    fn create_state_file(&self, path: &Path) -> Result<()> {
        fault::step("make a state file", || {
            fs::File::create_new(path)
                .context(Kind::Hypervisor, || "cannot make a state file".into())?;
            let mut state = self.world.state();
            state.volumes.insert(path.to_owned(), Volume::default());
            Ok(())
        })
    }
}
