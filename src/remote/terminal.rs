//! The user's terminal while a shell in the node has it: raw mode, size, signals.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::SigId;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGQUIT, SIGWINCH};

use crate::error::{Error, Kind, Result, ResultExt};

/// Columns and rows when there is no terminal to ask.
const DEFAULT_SIZE: (u32, u32) = (80, 24);

/// Returns whether a person types on standard input.
pub(super) fn is_interactive() -> bool {
    std::io::stdin().is_terminal()
}

/// Returns the terminal's columns and rows.
pub(super) fn size() -> (u32, u32) {
    [
        tcgetwinsize(rustix::stdio::stdin()),
        tcgetwinsize(rustix::stdio::stdout()),
    ]
    .into_iter()
    .flatten()
    .map(|size| (u32::from(size.ws_col), u32::from(size.ws_row)))
    .find(|(columns, rows)| *columns > 0 && *rows > 0)
    .unwrap_or(DEFAULT_SIZE)
}

/// The terminal in raw mode; dropping it restores the mode that was there, also in a panic.
///
/// Signals that would end the process are caught meanwhile and reported by [`RawTerminal::check`],
/// so that the mode is restored then as well; SIGINT and SIGTERM are `interrupt`'s at all times.
pub(super) struct RawTerminal {
    saved: Termios,
    signals: Vec<SigId>,
    ending: Arc<AtomicBool>,
    resized: Arc<AtomicBool>,
    resumed: Arc<AtomicBool>,
}

impl RawTerminal {
    /// Switches the terminal on standard input to raw mode.
    pub(super) fn enter() -> Result<RawTerminal> {
        const WHAT: &str = "cannot take over the terminal";
        let saved = tcgetattr(rustix::stdio::stdin()).context(Kind::Internal, || WHAT.into())?;
        let mut raw = RawTerminal {
            saved,
            signals: Vec::new(),
            ending: Arc::default(),
            resized: Arc::default(),
            resumed: Arc::default(),
        };
        for (signal, flag) in [
            (SIGHUP, &raw.ending),
            (SIGQUIT, &raw.ending),
            (SIGWINCH, &raw.resized),
            (SIGCONT, &raw.resumed),
        ] {
            let id = signal_hook::flag::register(signal, Arc::clone(flag))
                .context(Kind::Internal, || WHAT.into())?;
            raw.signals.push(id);
        }
        raw.make_raw()?;
        Ok(raw)
    }

    fn make_raw(&self) -> Result<()> {
        let mut mode = self.saved.clone();
        mode.make_raw();
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &mode)
            .context(Kind::Internal, || "cannot set the terminal's mode".into())
    }

    /// Fails when a signal asked the process to end.
    pub(super) fn check(&self) -> Result<()> {
        // The shell that stopped and continued the process has set a mode of its own meanwhile.
        if self.resumed.swap(false, Ordering::Relaxed) {
            self.make_raw()?;
            self.resized.store(true, Ordering::Relaxed);
        }
        if self.ending.load(Ordering::Relaxed) {
            return Err(Error::new(Kind::Interrupted, "interrupted by a signal"));
        }
        Ok(())
    }

    /// Returns the new size if it changed since the last call.
    pub(super) fn new_size(&self) -> Option<(u32, u32)> {
        self.resized.swap(false, Ordering::Relaxed).then(size)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &self.saved);
        for id in self.signals.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}
