//! The API's address on the host where a cluster has several control planes: HAProxy on a port of 127.0.0.1,
//! which leads to whichever of them is ready. It runs as long as the cluster does, without privileges.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::balancer::Balancer;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil;
use crate::remote::quote;
use crate::store::ProfileDir;
use crate::tool::{self, Tool};
use crate::wait;

/// The program.
const PROGRAM: &str = "haproxy";

/// The limit for the program to begin and to end.
const LIMIT: Duration = Duration::from_secs(10);

/// The pause between two looks whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

/// The lines of `global` for every user. Clients that keep their connections do not keep the program whose
/// configuration has changed.
const LIMITS: [&str; 3] = ["maxconn 2000", "nbthread 1", "hard-stop-after 10s"];

/// The line with which the program gives up the rights of root, once it has read its files.
const NO_RIGHTS: [&str; 2] = ["uid 65534", "gid 65534"];

/// The endpoint of one cluster.
#[derive(Debug)]
pub struct Endpoint {
    config: PathBuf,
    /// The configuration that the program has read.
    in_force: PathBuf,
    pid: PathBuf,
}

impl Endpoint {
    /// Returns the endpoint of the cluster with this folder.
    pub fn of(dir: &ProfileDir) -> Self {
        let folder = dir.endpoint();
        Endpoint {
            config: folder.join("haproxy.cfg"),
            in_force: folder.join("in-force.cfg"),
            pid: folder.join("haproxy.pid"),
        }
    }

    /// Returns the configuration for a port of 127.0.0.1, the file with the authority of the servers'
    /// certificates, and the servers with their names and ports of 127.0.0.1.
    pub fn config(port: u16, authority: &Path, servers: &[(&str, u16)]) -> String {
        let servers = servers.iter();
        let servers = servers.map(|(name, port)| ((*name).to_owned(), format!("127.0.0.1:{port}")));
        let mut global = LIMITS.to_vec();
        if rustix::process::geteuid().is_root() {
            global.extend(NO_RIGHTS);
        }
        Balancer {
            global: &global,
            port,
            // HAProxy takes words as a shell does.
            authority: &quote(&authority.to_string_lossy()),
            servers: servers.collect(),
        }
        .config()
    }

    /// Checks that the program is installed.
    ///
    /// # Errors
    /// [`Kind::Preflight`] where it is not.
    pub fn require_program() -> Result<PathBuf> {
        tool::find(PROGRAM).ok_or_else(|| {
            Error::preflight("a cluster of several control planes needs HAProxy on the host")
                .with_hint("install it: scripts/setup, or sudo apt-get install haproxy")
        })
    }

    /// Returns the running program's ID. One of another program that got the ID later is not meant.
    pub fn runs(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(&self.pid).ok()?;
        let id: i32 = text.trim().parse().ok()?;
        let command = std::fs::read(format!("/proc/{id}/cmdline")).ok()?;
        let mut arguments = command.split(|byte| *byte == 0);
        let own = arguments.any(|argument| argument == self.config.as_os_str().as_bytes());
        Pid::from_raw(id).filter(|_| own)
    }

    /// Makes the program run with this configuration; returns whether it had to be begun or changed.
    ///
    /// # Errors
    /// [`Kind::Preflight`] where it is not installed, [`Kind::Hypervisor`] where it does not begin.
    pub fn ensure(&self, config: &str) -> Result<bool> {
        let before = std::fs::read_to_string(&self.in_force).ok();
        let running = self.runs();
        if running.is_some() && before.as_deref() == Some(config) {
            return Ok(false);
        }
        let program = Self::require_program()?;
        fsutil::create_private_dir(fsutil::folder_of(&self.config))?;
        fsutil::write_atomic(&self.config, config.as_bytes(), 0o600)?;
        let mut begin = Tool::new(program.to_string_lossy(), Kind::Hypervisor)
            .args(["-D", "-f"])
            .arg(&self.config)
            .arg("-p")
            .arg(&self.pid)
            .deadline(LIMIT);
        if let Some(running) = running {
            begin = begin.args(["-sf", &running.as_raw_nonzero().to_string()]);
        }
        begin.run(None).context(Kind::Hypervisor, || {
            "cannot start HAProxy, which leads to the control planes".into()
        })?;
        fsutil::write_atomic(&self.in_force, config.as_bytes(), 0o600)?;
        Ok(true)
    }

    /// Makes the program run with the configuration that it had.
    ///
    /// # Errors
    /// As [`Endpoint::ensure`]; [`Kind::State`] where it never ran.
    pub fn start_again(&self) -> Result<bool> {
        let config = std::fs::read_to_string(&self.config).context(Kind::State, || {
            format!("cannot read {}", self.config.display())
        })?;
        self.ensure(&config)
    }

    /// Ends the program; returns whether it ran.
    ///
    /// # Errors
    /// [`Kind::Hypervisor`] where it does not end.
    pub fn stop(&self) -> Result<bool> {
        let Some(running) = self.runs() else {
            return Ok(false);
        };
        kill_process(running, Signal::TERM).context(Kind::Hypervisor, || {
            "cannot end HAProxy, which leads to the control planes".into()
        })?;
        let ended = || Ok(self.runs().is_none().then_some(()));
        if wait::poll(Instant::now() + LIMIT, LOOK, ended)?.is_none() {
            let id = running.as_raw_nonzero();
            return Err(Error::hypervisor(format!(
                "HAProxy, which leads to the control planes, does not end: process {id}"
            ))
            .with_hint(format!("kill -9 {id}")));
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_one_word() {
        for (path, word) in [("/my home/$x#1", "'/my home/$x#1'"), ("/o'b", "'/o'\\''b'")] {
            let config = Endpoint::config(1, Path::new(path), &[]);
            assert!(config.contains(&format!(" ca-file {word} ")), "{config}");
        }
    }
}
