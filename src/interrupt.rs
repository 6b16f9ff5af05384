//! Ctrl-C and SIGTERM: a flag that every wait looks at, so that kubby stops between two steps
//! with its state saved rather than in the middle of one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::{Error, Kind, Result, ResultExt};

#[derive(Default)]
struct State {
    requested: Arc<AtomicBool>,
    /// The last signal that was not taken; 0 for none.
    signal: Arc<AtomicUsize>,
    /// The handlers that end the process at the second signal.
    impatient: Mutex<Vec<SigId>>,
    /// The handlers that record signals.
    listening: Mutex<Vec<SigId>>,
}

static STATE: LazyLock<State> = LazyLock::new(State::default);

/// Installs the handlers. The first signal sets the flag, a second one ends the process at once.
///
/// # Errors
/// When the operating system refuses a handler.
pub fn install() -> Result<()> {
    for signal in [SIGINT, SIGTERM] {
        // Order matters: the conditional exit looks at the flag before the next line sets it.
        let id = signal_hook::flag::register_conditional_shutdown(
            signal,
            i32::from(Kind::Interrupted.exit_code()),
            Arc::clone(&STATE.requested),
        );
        add(&STATE.impatient, id)?;
        listen(signal)?;
    }
    Ok(())
}

fn listen(signal: i32) -> Result<()> {
    let number = usize::try_from(signal).unwrap_or_default();
    // The number first: code that sees the flag finds it.
    let id = signal_hook::flag::register_usize(signal, Arc::clone(&STATE.signal), number);
    add(&STATE.listening, id)?;
    let id = signal_hook::flag::register(signal, Arc::clone(&STATE.requested));
    add(&STATE.listening, id)
}

fn add(to: &Mutex<Vec<SigId>>, id: std::io::Result<SigId>) -> Result<()> {
    let id = id.context(Kind::Internal, || {
        "cannot install the signal handlers".into()
    })?;
    to.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    Ok(())
}

fn unregister(ids: &Mutex<Vec<SigId>>) {
    for id in ids.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        signal_hook::low_level::unregister(id);
    }
}

/// Keeps a second signal from ending the process from now on: something has to be cleaned up after
/// the first. SIGHUP counts as a signal too, unless it was ignored when kubby was started.
///
/// # Errors
/// When the operating system refuses a handler.
pub(crate) fn be_thorough() -> Result<()> {
    unregister(&STATE.impatient);
    if ignores_hangups() {
        return Ok(());
    }
    listen(SIGHUP)
}

/// Returns whether SIGHUP is ignored, as nohup does it.
fn ignores_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut masks = status.lines().filter_map(|l| l.strip_prefix("SigIgn:"));
    let mask = masks.next().map(str::trim);
    mask.and_then(|mask| u64::from_str_radix(mask, 16).ok())
        .is_some_and(|mask| mask & 1 << (SIGHUP - 1) != 0)
}

/// Ignores signals from now on, and forgets those that came: for cleaning up.
pub(crate) fn ignore() {
    unregister(&STATE.listening);
    forget();
}

/// Forgets that the user, or an [`Alarm`], asked to stop.
pub(crate) fn forget() {
    STATE.requested.store(false, Ordering::Relaxed);
    STATE.signal.store(0, Ordering::Relaxed);
}

/// Returns the number of the last signal that came, unless it was taken already.
pub(crate) fn take_signal() -> Option<i32> {
    let signal = STATE.signal.swap(0, Ordering::Relaxed);
    i32::try_from(signal).ok().filter(|signal| *signal != 0)
}

/// Returns whether the user asked to stop.
pub fn requested() -> bool {
    STATE.requested.load(Ordering::Relaxed)
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

/// Sleeps, and returns early with an error when the user asks to stop.
///
/// # Errors
/// [`Kind::Interrupted`] after a signal.
pub fn sleep(duration: Duration) -> Result<()> {
    #[cfg(test)]
    if crate::process::simulated::sleeps() {
        return check();
    }
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

/// Asks this process to stop, as a signal does, when a time has passed and it was not dropped.
pub(crate) struct Alarm {
    rang: Arc<AtomicBool>,
    _end: mpsc::Sender<()>,
}

impl Alarm {
    /// Rings after `limit`.
    pub(crate) fn after(limit: Duration) -> Self {
        let rang = Arc::new(AtomicBool::new(false));
        let (end, ended) = mpsc::channel::<()>();
        let (ring, requested) = (Arc::clone(&rang), Arc::clone(&STATE.requested));
        std::thread::spawn(move || {
            if let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(limit) {
                ring.store(true, Ordering::Relaxed);
                requested.store(true, Ordering::Relaxed);
            }
        });
        Alarm { rang, _end: end }
    }

    /// Returns whether the time has passed.
    pub(crate) fn rang(&self) -> bool {
        self.rang.load(Ordering::Relaxed)
    }
}
