//! Ctrl-C and SIGTERM: a flag that every wait looks at, so that kubby stops between two steps
//! with its state saved rather than in the middle of one.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result, ResultExt};

fn flag() -> &'static Arc<AtomicBool> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    FLAG.get_or_init(Arc::default)
}

/// Installs the handlers. The first signal sets the flag, a second one ends the process at once.
///
/// # Errors
/// When the operating system refuses a handler.
pub fn install() -> Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // Order matters: the conditional exit looks at the flag before the second line sets it.
        signal_hook::flag::register_conditional_shutdown(
            signal,
            i32::from(Kind::Interrupted.exit_code()),
            Arc::clone(flag()),
        )
        .and_then(|_| signal_hook::flag::register(signal, Arc::clone(flag())))
        .context(Kind::Internal, || {
            "cannot install the signal handlers".into()
        })?;
    }
    Ok(())
}

/// Whether the user asked to stop.
pub fn requested() -> bool {
    flag().load(Ordering::Relaxed)
}

/// Fails with [`Kind::Interrupted`] when the user asked to stop; call it between steps.
///
/// # Errors
/// [`Kind::Interrupted`] after a signal.
pub fn check() -> Result<()> {
    if requested() {
        return Err(Error::new(Kind::Interrupted, "interrupted"));
    }
    Ok(())
}

/// Sleeps, waking early with an error when the user asks to stop.
///
/// # Errors
/// [`Kind::Interrupted`] after a signal.
pub fn sleep(duration: Duration) -> Result<()> {
    let end = Instant::now() + duration;
    loop {
        check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}
