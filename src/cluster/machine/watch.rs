//! Watching a machine: its serial console, its CPU time and its domain.

use std::time::{Duration, Instant};

use crate::cluster::machine::Machine;
use crate::error::{Error, Result};
use crate::hypervisor::console::Trouble;
use crate::hypervisor::{self, Acceleration, BootState, BootWatch, console};
use crate::interrupt;

/// Lines of the console that an error shows.
const CONSOLE_LINES: usize = 25;

/// The interval at which the console and the domain are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The shortest boot of an emulated machine: the quickest measured one took 11 s until SSH answered. With
/// KVM a boot takes a second or two.
const LEAST_EMULATED_BOOT: Duration = Duration::from_secs(8);

/// Watches a machine that boots or runs: a panic, a stall, or a QEMU that ended are errors at once.
pub(crate) struct Watcher<'a> {
    machine: Machine<'a>,
    acceleration: Acceleration,
    watch: BootWatch,
    started: Instant,
    last_look: Option<Instant>,
    /// Once SSH has answered, a silent console is not a stall any more.
    reached: bool,
}

impl<'a> Watcher<'a> {
    /// Watches a machine.
    pub(crate) fn new(machine: Machine<'a>, acceleration: Acceleration) -> Self {
        Watcher {
            machine,
            watch: BootWatch::new(acceleration),
            acceleration,
            started: Instant::now(),
            last_look: None,
            reached: false,
        }
    }

    /// Begins again, for a machine that was just started.
    pub(crate) fn restart(&mut self) {
        *self = self.another();
    }

    /// Returns another watcher of the same machine, for a check that runs in parallel.
    pub(crate) fn another(&self) -> Watcher<'a> {
        Watcher::new(self.machine.clone(), self.acceleration)
    }

    /// Waits for the shortest time that any boot takes. QEMU's user network accepts a connection before
    /// anything in the node does, keeps it when the host has given up, and hands it over in the end:
    /// each early attempt costs the node the start of a process for a client that is gone, while it has
    /// everything else to start.
    ///
    /// # Errors
    /// As [`Watcher::look`].
    pub(crate) fn before_ssh(&mut self) -> Result<()> {
        let least = match self.acceleration {
            Acceleration::Kvm => Duration::ZERO,
            Acceleration::Tcg => LEAST_EMULATED_BOOT,
        };
        while self.started.elapsed() < least {
            self.look()?;
            let left = least.saturating_sub(self.started.elapsed());
            interrupt::sleep(left.min(LOOK_EVERY))?;
        }
        Ok(())
    }

    /// Notes that the node answers over SSH, or does not boot: from now on only a panic or a machine that
    /// is gone is an error.
    pub(crate) fn reached(&mut self) {
        self.reached = true;
    }

    /// Looks at the console and the domain, at most every [`LOOK_EVERY`].
    ///
    /// # Errors
    /// [`Kind::NodeUnreachable`](crate::error::Kind::NodeUnreachable) for a panic, a stall or a machine that went away;
    /// [`Kind::Interrupted`](crate::error::Kind::Interrupted) on Ctrl-C.
    pub(crate) fn look(&mut self) -> Result<()> {
        interrupt::check()?;
        if self.last_look.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return Ok(());
        }
        self.last_look = Some(Instant::now());
        let name = &self.machine.names.domain;
        let domain = self.machine.find()?;
        let cpu_time = domain.as_ref().map_or(Duration::ZERO, |d| d.cpu_time);
        // The console first: a machine that has ended has written why.
        let text = self.console_text();
        let spare = hypervisor::spare_time(self.machine.host.libvirt().uri());
        let elapsed = self.started.elapsed();
        let state = self.watch.observe(elapsed, &text, cpu_time, spare);
        match state {
            BootState::Broken(trouble) => {
                let message = format!("the node `{name}` crashed: {}", trouble.message());
                Err(match trouble {
                    Trouble::Panic(_) => self.dead(message),
                    _ => self.error(message),
                })
            }
            BootState::Stalled(since) if !self.reached => Err(self.dead(format!(
                "the boot of `{name}` makes no progress: its console has been silent for {} s",
                since.as_secs()
            ))),
            BootState::Idle(since) if !self.reached => Err(self.dead(format!(
                "the node `{name}` appears to hang: its CPUs have been idle for {} s",
                since.as_secs()
            ))),
            BootState::Progressing | BootState::Stalled(_) | BootState::Idle(_) => {
                match domain {
                    Some(domain) if domain.state.is_active() => Ok(()),
                    // Emulation itself crashes now and then: an assertion of QEMU 10's, seen at a boot.
                    Some(domain) => Err(self.dead(format!(
                        "the virtual machine `{name}` ended by itself ({})",
                        domain.reason.as_deref().unwrap_or(domain.state.name())
                    ))),
                    None => Err(self.error(format!("the virtual machine `{name}` is gone"))),
                }
            }
        }
    }

    /// Returns the console's text; one that cannot be read does not end a boot that goes well.
    pub(crate) fn console_text(&self) -> String {
        self.machine.console().unwrap_or_default()
    }

    /// Returns an error about a machine that only another start can bring back.
    fn dead(&self, message: String) -> Error {
        self.error(message).of_dead_machine()
    }

    /// Returns an error about the node, with the console's last lines.
    fn error(&self, message: String) -> Error {
        self.explain(Error::unreachable(message))
    }

    /// Adds the console's last lines and what to do next.
    pub(crate) fn explain(&self, error: Error) -> Error {
        let flag = self.machine.flag();
        let tail = match console::tail(&self.console_text(), CONSOLE_LINES) {
            tail if tail.is_empty() => "(nothing was written to it)".to_owned(),
            tail => tail,
        };
        error
            .with_detail("the console's last lines", tail)
            .with_hint(format!(
                "kubby logs{flag} --console shows the whole console"
            ))
            .with_hint(format!(
                "kubby start{flag} tries again; kubby delete{flag} removes the cluster"
            ))
    }
}
