//! libvirt in memory: pools, volumes and domains.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::disk::{Content, Volume};
use super::world::{Domain, Pool, URI, World};
use crate::error::{Error, Result};
use crate::fault;
use crate::hypervisor::{self, Change, DomainSpec, HostInfo, Hypervisor, POOL_MARK, State};
use crate::progress::Step;

/// A connection to libvirt in memory.
pub(super) struct Libvirt {
    pub(super) world: Arc<World>,
}

/// Returns [`Change::Done`] where something was done.
pub(super) fn change(done: bool) -> Change {
    match done {
        true => Change::Done,
        false => Change::Nothing,
    }
}

impl Libvirt {
    /// Returns kubby's view of a domain.
    fn describe(domain: &Domain) -> hypervisor::Domain {
        hypervisor::Domain {
            name: domain.spec.name.clone(),
            uuid: domain.spec.uuid,
            state: match &domain.run {
                None => State::ShutOff,
                Some(run) if run.paused => State::Paused,
                Some(_) => State::Running,
            },
            reason: None,
            owner: domain.marked.then(|| domain.spec.owner.clone()),
            cpu_time: Duration::from_secs(1),
        }
    }
}

impl Hypervisor for Libvirt {
    fn uri(&self) -> &str {
        URI
    }

    fn host(&self) -> Result<HostInfo> {
        Ok(hypervisor::host::example())
    }

    fn ensure_pool(&self, pool: &str, target: &Path) -> Result<Change> {
        fault::step("make the pool", || {
            let mut state = self.world.state();
            let wanted = Pool {
                active: true,
                target: target.to_owned(),
            };
            match state.pools.get(pool) {
                Some(found) if found.target != target => {
                    return Err(Error::state("the storage pool is in another folder"));
                }
                Some(found) if *found == wanted && target.exists() => return Ok(Change::Nothing),
                _ => {}
            }
            fs::create_dir_all(target).unwrap();
            state.pools.insert(pool.to_owned(), wanted);
            Ok(Change::Done)
        })
    }

    fn find_pool(&self, pool: &str) -> Result<Option<hypervisor::Pool>> {
        let state = self.world.state();
        Ok(state.pools.get(pool).map(|pool| hypervisor::Pool {
            active: pool.active,
            target: pool.target.clone(),
        }))
    }

    fn pool_available_bytes(&self, pool: &str) -> Result<u64> {
        self.world.state().target(pool).map(|_| 1 << 40)
    }

    fn refresh_pool(&self, pool: &str) -> Result<()> {
        let mut state = self.world.state();
        state.refresh();
        state.target(pool).map(drop)
    }

    fn remove_pool(&self, pool: &str) -> Result<bool> {
        fault::step("remove the pool", || {
            if !self.list_volumes(pool)?.is_empty() {
                return Ok(false);
            }
            let mut state = self.world.state();
            if let Some(found) = state.pools.remove(pool) {
                let mark = found.target.join(POOL_MARK);
                state.volumes.remove(&mark);
                let _ = fs::remove_file(mark);
                let _ = fs::remove_dir(&found.target);
            }
            Ok(true)
        })
    }

    fn upload(&self, pool: &str, volume: &str, source: &Path, _step: &Step) -> Result<Change> {
        fault::step("upload", || {
            let path = self.world.state().target(pool)?.join(volume);
            let there = self.world.state().volumes.get(&path).map(|v| v.uploaded);
            if there == Some(true) {
                return Ok(Change::Nothing);
            }
            fs::copy(source, &path).unwrap();
            let empty = Volume {
                disk: Some(Content::default()),
                ..Volume::default()
            };
            self.world.state().volumes.insert(path.clone(), empty);
            fault::point("unmarked", "upload");
            if let Some(volume) = self.world.state().volumes.get_mut(&path) {
                volume.uploaded = true;
            }
            Ok(Change::Done)
        })
    }

    fn upload_bytes(&self, pool: &str, volume: &str, content: &[u8]) -> Result<()> {
        fault::step("upload bytes", || {
            let path = self.world.state().target(pool)?.join(volume);
            fs::write(&path, b"").unwrap();
            let mut state = self.world.state();
            let number = state.next();
            let whole = Volume {
                bytes: Some((number, content.into())),
                ..Volume::default()
            };
            state.volumes.insert(path.clone(), whole);
            drop(state);
            fault::point("unmarked", "upload");
            if let Some(volume) = self.world.state().volumes.get_mut(&path) {
                volume.uploaded = true;
            }
            Ok(())
        })
    }

    fn create_overlay(&self, pool: &str, volume: &str, backing: &str, _: u64) -> Result<Change> {
        fault::step("make the overlay", || {
            let mut state = self.world.state();
            let target = state.target(pool)?;
            let (path, backing) = (target.join(volume), target.join(backing));
            if let Some(found) = state.volumes.get(&path) {
                return match found.backing.as_deref() == Some(&backing) {
                    true => Ok(Change::Nothing),
                    false => Err(Error::hypervisor("the volume is based on another one")),
                };
            }
            state.make_overlay(&path, &backing)?;
            Ok(Change::Done)
        })
    }

    fn delete_volume(&self, pool: &str, volume: &str) -> Result<Change> {
        fault::step("delete a volume", || {
            let mut state = self.world.state();
            let Ok(target) = state.target(pool) else {
                return Ok(Change::Nothing);
            };
            let path = target.join(volume);
            state.note_deletion(&path);
            let known = state.volumes.remove(&path).is_some();
            Ok(change(fs::remove_file(&path).is_ok() || known))
        })
    }

    fn volume_path(&self, pool: &str, volume: &str) -> Result<PathBuf> {
        let mut state = self.world.state();
        state.refresh();
        let path = state.target(pool)?.join(volume);
        match state.volumes.contains_key(&path) {
            true => Ok(path),
            false => Err(Error::hypervisor(format!("there is no volume {volume}"))),
        }
    }

    fn list_volumes(&self, pool: &str) -> Result<Vec<hypervisor::Volume>> {
        let mut state = self.world.state();
        let Some(pool) = state.pools.get(pool).filter(|pool| pool.active).cloned() else {
            return Ok(Vec::new());
        };
        state.refresh();
        let in_pool = state.volumes.iter();
        let in_pool = in_pool.filter(|(path, _)| path.parent() == Some(&pool.target));
        let all = in_pool.map(|(path, volume)| hypervisor::Volume {
            name: path.file_name().unwrap().to_str().unwrap().to_owned(),
            allocation: 4096,
            uploaded: volume.uploaded,
            backing: volume.backing.clone(),
        });
        Ok(all.filter(|volume| volume.name != POOL_MARK).collect())
    }

    fn read_log(&self, pool: &str, file: &str) -> Result<String> {
        let state = self.world.state();
        let path = state.target(pool)?.join(file);
        let bytes = state.volumes.get(&path).and_then(|v| v.bytes.as_ref());
        Ok(bytes.map_or_else(String::new, |(_, b)| {
            String::from_utf8_lossy(b).into_owned()
        }))
    }

    fn find(&self, domain: &str) -> Result<Option<hypervisor::Domain>> {
        let state = self.world.state();
        Ok(state.domains.get(domain).map(Self::describe))
    }

    fn definition(&self, domain: &str) -> Result<Option<String>> {
        let state = self.world.state();
        Ok(state.domains.get(domain).map(|d| format!("{:?}", d.spec)))
    }

    fn list_owned(&self) -> Result<Vec<hypervisor::Domain>> {
        let state = self.world.state();
        let owned = state.domains.values().filter(|domain| domain.marked);
        Ok(owned.map(Self::describe).collect())
    }

    fn define(&self, spec: &DomainSpec) -> Result<()> {
        hypervisor::domain_xml::render(spec)?;
        fault::step("define", || {
            let mut state = self.world.state();
            match state.domains.get_mut(&spec.name) {
                Some(domain) if domain.spec.uuid != spec.uuid => {
                    Err(Error::hypervisor("the name has another UUID"))
                }
                Some(domain) => {
                    domain.spec = spec.clone();
                    Ok(())
                }
                None => {
                    let domain = Domain {
                        spec: spec.clone(),
                        marked: true,
                        run: None,
                    };
                    state.domains.insert(spec.name.clone(), domain);
                    Ok(())
                }
            }
        })
    }

    fn start(&self, domain: &str) -> Result<Change> {
        fault::step("start", || {
            let mut state = self.world.state();
            if state.domain(domain)?.run.is_some() {
                return Ok(Change::Nothing);
            }
            state.boot(domain)?;
            // QEMU makes the console's log.
            let log = state.spec(domain)?.console_log;
            fs::write(&log, b"").unwrap();
            state.volumes.insert(log.into(), Volume::default());
            Ok(Change::Done)
        })
    }

    fn resume(&self, domain: &str) -> Result<Change> {
        fault::step("resume", || {
            let mut state = self.world.state();
            if !state.run(domain)?.paused {
                return Ok(Change::Nothing);
            }
            state.let_run(domain);
            Ok(Change::Done)
        })
    }

    fn shutdown(&self, domain: &str) -> Result<Change> {
        fault::step("shut down", || {
            let mut state = self.world.state();
            let deaf = state.run(domain).is_ok_and(|run| run.paused);
            match deaf {
                true => Ok(Change::Nothing),
                false => Ok(change(state.domain(domain)?.run.take().is_some())),
            }
        })
    }

    fn destroy(&self, domain: &str) -> Result<Change> {
        fault::step("destroy", || {
            let mut state = self.world.state();
            let domain = state.domains.get_mut(domain);
            Ok(change(domain.is_some_and(|d| d.run.take().is_some())))
        })
    }

    fn undefine(&self, domain: &str) -> Result<Change> {
        fault::step("undefine", || {
            let mut state = self.world.state();
            let runs = state.domains.get(domain).is_some_and(|d| d.run.is_some());
            if runs {
                return Err(Error::hypervisor("cannot remove the domain: it runs"));
            }
            Ok(change(state.domains.remove(domain).is_some()))
        })
    }
}
