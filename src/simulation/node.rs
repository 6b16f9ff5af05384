//! SSH sessions into nodes in memory.

use std::sync::Arc;
use std::time::Duration;

use super::guest;
use super::world::World;
use crate::error::{Error, Result};
use crate::fault;
use crate::network::SSH_PORT;
use crate::remote::{NodeFile, Output, Remote, Target};

/// A session in the node of a machine.
pub(super) struct Session {
    world: Arc<World>,
    domain: String,
}

impl Session {
    /// Connects with the keys of both sides.
    pub(super) fn open(world: &Arc<World>, target: &Target) -> Result<Self> {
        let refuse = |why: &str| Err(Error::unreachable(format!("the node {why}")));
        let public = std::fs::read_to_string(target.private_key.with_extension("pub"));
        let public = public.map_err(|_| Error::state("cannot read the SSH key"))?;
        let mut state = world.state();
        let Some(domain) = state.listener(target.port).map(str::to_owned) else {
            return refuse("does not listen");
        };
        let run = state.run(&domain)?.clone();
        let leads_to_ssh = |f: &&crate::hypervisor::PortForward| f.host == target.port;
        let forward = run.forwards.iter().find(leads_to_ssh);
        if forward.is_none_or(|forward| forward.guest != SSH_PORT) {
            return refuse("has another server there");
        }
        if *run.host_key != *target.host_key.trim() {
            return refuse("has another host key");
        }
        match state.running(&domain) {
            None => refuse("does not run"),
            Some(content) if content.text(guest::AUTHORIZED) != public.trim() => {
                refuse("refuses the key")
            }
            Some(_) => Ok(Session {
                world: Arc::clone(world),
                domain,
            }),
        }
    }

    /// Does something with the node's disk.
    fn with<T>(&self, work: impl FnOnce(&mut super::disk::Content) -> T) -> Result<T> {
        let mut state = self.world.state();
        let content = state.running(&self.domain);
        let content = content.ok_or_else(|| Error::unreachable("the connection broke"))?;
        Ok(work(content))
    }
}

impl Remote for Session {
    fn exec(&mut self, command: &str, stdin: &[u8], _limit: Option<Duration>) -> Result<Output> {
        assert!(stdin.is_empty(), "files are written and compared otherwise");
        fault::point("before", "a command in the node");
        let reload = self.with(|content| guest::run_script(content, command))?;
        if reload {
            let key = self.with(|content| guest::host_key(content))?;
            self.world.state().run(&self.domain)?.host_key = key;
        }
        fault::point("after", "a command in the node");
        Ok(Output {
            status: 0,
            stdout: guest::answer(command),
            stderr: Vec::new(),
        })
    }

    fn push(&mut self, files: &[NodeFile]) -> Result<()> {
        fault::point("before", "a command in the node");
        self.with(|content| {
            for file in files {
                content.write(&file.path, file.mode, file.content.as_slice());
            }
        })?;
        fault::point("after", "a command in the node");
        Ok(())
    }

    fn changed(&mut self, files: &[NodeFile], optional: &[&str]) -> Result<Vec<usize>> {
        fault::point("before", "a command in the node");
        let changed = self.with(|content| {
            let is_same = |file: &NodeFile| match content.files.get(&file.path) {
                Some((mode, bytes)) => (*mode, &bytes[..]) == (file.mode, &file.content[..]),
                None => file.content.is_empty() && optional.contains(&file.path.as_str()),
            };
            (0..files.len()).filter(|i| !is_same(&files[*i])).collect()
        })?;
        fault::point("after", "a command in the node");
        Ok(changed)
    }
}
