//! From power-on to an SSH session, with an eye on the serial console all the while.

use std::time::{Duration, Instant};

use crate::cluster::machine::resources::Names;
use crate::error::{Error, Kind, Result};
use crate::hypervisor::console::Trouble;
use crate::hypervisor::{self, Acceleration, BootState, BootWatch, Domain, Hypervisor, console};
use crate::interrupt;
use crate::profile::Profile;
use crate::progress::Step;
use crate::remote::{Ssh, Target};

/// Lines of the console that an error shows.
const CONSOLE_LINES: usize = 25;

/// How often the console and the domain are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What no emulated machine boots in: the quickest that was measured took 11 s until SSH answered.
const LEAST_EMULATED_BOOT: Duration = Duration::from_secs(8);

/// How long no boot is through; nothing with KVM, where one takes a second or two.
fn least_boot(acceleration: Acceleration) -> Duration {
    match acceleration {
        Acceleration::Kvm => Duration::ZERO,
        Acceleration::Tcg => LEAST_EMULATED_BOOT,
    }
}

/// Watches a machine that boots or works: a panic, a stall, or QEMU gone are errors at once.
pub struct Watcher<'a> {
    hypervisor: &'a dyn Hypervisor,
    names: Names,
    flag: String,
    watch: BootWatch,
    started: Instant,
    last_look: Option<Instant>,
    /// Once SSH has answered, silence on the console is no stall any more.
    reached: bool,
}

impl<'a> Watcher<'a> {
    /// Watches the domain of a profile.
    pub fn new(
        hypervisor: &'a dyn Hypervisor,
        profile: &Profile,
        acceleration: Acceleration,
        names: &Names,
    ) -> Self {
        Watcher {
            hypervisor,
            names: names.clone(),
            flag: profile.name.flag(),
            watch: BootWatch::new(acceleration),
            started: Instant::now(),
            last_look: None,
            reached: false,
        }
    }

    /// Waits as long as no boot is through. QEMU's user network takes a connection before anything in
    /// the node does, goes on with it when the host has given it up, and hands it over in the end: each
    /// attempt in vain costs the node the start of a process for a client that is gone, at a time when it
    /// has everything else to start.
    ///
    /// # Errors
    /// As [`Watcher::look`].
    pub fn before_ssh(&mut self, acceleration: Acceleration) -> Result<()> {
        let least = least_boot(acceleration);
        while self.started.elapsed() < least {
            self.look()?;
            let left = least.saturating_sub(self.started.elapsed());
            interrupt::sleep(left.min(LOOK_EVERY))?;
        }
        Ok(())
    }

    /// The node answers over SSH, or does not boot: from now on only a panic or a vanished machine is
    /// an error.
    pub fn reached(&mut self) {
        self.reached = true;
    }

    /// Looks at the console and the domain, at most every [`LOOK_EVERY`].
    ///
    /// # Errors
    /// [`Kind::NodeUnreachable`] for a panic, a stall or a machine that went away;
    /// [`Kind::Interrupted`] on Ctrl-C.
    pub fn look(&mut self) -> Result<()> {
        interrupt::check()?;
        if self.last_look.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return Ok(());
        }
        self.last_look = Some(Instant::now());
        let name = &self.names.domain;
        let domain = self.hypervisor.find(name)?;
        let cpu_time = domain.as_ref().map_or(Duration::ZERO, |d| d.cpu_time);
        // First what the console says: a machine that has ended has said why.
        let text = self.console_text();
        let spare = hypervisor::spare_time(self.hypervisor.uri());
        let elapsed = self.started.elapsed();
        let state = self.watch.observe(elapsed, &text, cpu_time, spare);
        match state {
            BootState::Broken(trouble) => {
                let error = self.error(format!("the node `{name}` broke: {}", trouble.message()));
                Err(match trouble {
                    Trouble::Panic(_) => error.of_dead_machine(),
                    _ => error,
                })
            }
            BootState::Stalled { since } if !self.reached => Err(self
                .error(format!(
                    "the boot of `{name}` makes no progress: nothing on the console for {} s",
                    since.as_secs()
                ))
                .of_dead_machine()),
            BootState::Idle { since } if !self.reached => Err(self
                .error(format!(
                    "the node `{name}` does nothing: its processors have rested for {} s",
                    since.as_secs()
                ))
                .of_dead_machine()),
            BootState::Progressing | BootState::Stalled { .. } | BootState::Idle { .. } => {
                self.runs(domain.as_ref())
            }
        }
    }

    fn runs(&self, domain: Option<&Domain>) -> Result<()> {
        let name = &self.names.domain;
        match domain {
            Some(domain) if domain.state.is_active() => Ok(()),
            // Emulation itself crashes now and then: an assertion of QEMU 10's, seen at a boot.
            Some(domain) => Err(self
                .error(format!(
                    "the virtual machine `{name}` ended by itself ({})",
                    domain.reason.as_deref().unwrap_or(domain.state.name())
                ))
                .of_dead_machine()),
            None => Err(self.error(format!("the virtual machine `{name}` went away"))),
        }
    }

    fn console_text(&self) -> String {
        // A console that cannot be read must not end a boot that goes well.
        self.hypervisor
            .read_log(&self.names.pool, &self.names.console)
            .unwrap_or_default()
    }

    /// An error about the node, with the console's last lines.
    pub fn error(&self, message: String) -> Error {
        self.explain(Error::new(Kind::NodeUnreachable, message))
    }

    /// Adds the console's last lines and what to do next.
    pub fn explain(&self, error: Error) -> Error {
        let tail = match console::tail(&self.console_text(), CONSOLE_LINES) {
            tail if tail.is_empty() => "(nothing was written to it)".to_owned(),
            tail => tail,
        };
        error
            .with_detail("the console's last lines", tail)
            .with_hint(format!(
                "kubby logs{} --console shows the whole console",
                self.flag
            ))
            .with_hint(format!(
                "kubby start{0} tries again; kubby delete{0} removes the cluster",
                self.flag
            ))
    }
}

/// Waits until the node answers over SSH.
///
/// # Errors
/// As [`Watcher::look`]; [`Kind::NodeUnreachable`] when `limit` has passed.
pub fn connect(
    target: &Target,
    watcher: &mut Watcher<'_>,
    limit: Duration,
    step: &Step,
) -> Result<Ssh> {
    let mut explained = false;
    let ssh = Ssh::connect_when_ready(target, Instant::now() + limit, &mut |_elapsed| {
        watcher.look().inspect_err(|_| explained = true)?;
        let tail = console::tail(&watcher.console_text(), 1);
        step.detail(tail.trim());
        Ok(())
    });
    match ssh {
        Ok(ssh) => {
            watcher.reached();
            Ok(ssh)
        }
        Err(e) if explained || e.kind() == Kind::Interrupted => Err(e),
        Err(e) => Err(watcher.explain(e)),
    }
}
