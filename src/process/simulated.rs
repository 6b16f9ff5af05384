//! Processes that tests run on threads of their own. Each can be killed at a place of
//! [`fault`](crate::fault): its thread unwinds from there, and what would clean up in a living process
//! asks [`is_killed`] first, so that a killed one leaves what SIGKILL would leave.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The first id; Linux gives none above 4,194,304.
const FIRST_ID: u32 = 1 << 24;

/// No process pauses more often.
const MOST_SLEEPS: u32 = 2000;

/// The length of each pause in its place: another thread of the process may have something to do.
const PAUSE: Duration = Duration::from_micros(100);

static NEXT_ID: AtomicU32 = AtomicU32::new(FIRST_ID);

thread_local! {
    static CURRENT: RefCell<Option<Arc<Process>>> = const { RefCell::new(None) };
}

/// The place at which a process is killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KillAt {
    /// The place that it passes as the one with this number, beginning with 1.
    Number(u32),
    /// A place by its name and count, such as `after define#1`.
    Place(String),
}

/// A process on a thread of a test.
pub(crate) struct Process {
    id: u32,
    kill_at: Option<KillAt>,
    killed: AtomicBool,
    passed: Mutex<Vec<String>>,
    count: AtomicU32,
    sleeps: AtomicU32,
    is_port_taken: Box<dyn Fn(u16) -> bool + Send + Sync>,
}

/// The payload with which a killed process unwinds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Killed;

impl Process {
    /// Returns a process that has not run yet.
    pub(crate) fn new(
        kill_at: Option<KillAt>,
        is_port_taken: impl Fn(u16) -> bool + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Process {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            kill_at,
            killed: AtomicBool::new(false),
            passed: Mutex::default(),
            count: AtomicU32::new(0),
            sleeps: AtomicU32::new(0),
            is_port_taken: Box::new(is_port_taken),
        })
    }

    /// Runs the process on this thread, to its end or to its death.
    pub(crate) fn run<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> Result<T, Killed> {
        CURRENT.set(Some(Arc::clone(self)));
        let result = panic::catch_unwind(AssertUnwindSafe(work));
        CURRENT.set(None);
        match result {
            Ok(value) if !self.is_killed() => Ok(value),
            Err(payload) if !payload.is::<Killed>() => panic::resume_unwind(payload),
            _ => Err(Killed),
        }
    }

    /// Makes this thread one of the process, unless it is already.
    pub(crate) fn enter(self: &Arc<Self>) {
        CURRENT.with_borrow_mut(|current| {
            if current.is_none() {
                *current = Some(Arc::clone(self));
            }
        });
    }

    /// Returns the number of places that it has passed.
    pub(crate) fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }

    fn pass(&self, place: &str, leave: impl FnOnce()) {
        if std::thread::panicking() {
            return;
        }
        // Another thread of the process may have met its end.
        if !self.is_killed() {
            let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
            let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
            passed.push(place.to_owned());
            let is_due = match &self.kill_at {
                None => false,
                Some(KillAt::Number(due)) => *due == number,
                Some(KillAt::Place(due)) => {
                    let same = passed.iter().filter(|p| *p == place).count();
                    *due == format!("{place}#{same}")
                }
            };
            drop(passed);
            if !is_due {
                return;
            }
            self.killed.store(true, Ordering::Relaxed);
        }
        leave();
        // Without the panic hook, which would print a message.
        panic::resume_unwind(Box::new(Killed));
    }
}

fn current() -> Option<Arc<Process>> {
    CURRENT.with_borrow(Option::clone)
}

/// Passes a place of this thread's process; returns `false` where the thread belongs to none.
pub(crate) fn pass(place: impl FnOnce() -> String, leave: impl FnOnce()) -> bool {
    let Some(process) = current() else {
        return false;
    };
    process.pass(&place(), leave);
    true
}

/// Returns the id of this thread's process.
pub(crate) fn id() -> Option<u32> {
    current().map(|process| process.id)
}

/// Returns whether this thread's process was killed.
pub(crate) fn is_killed() -> bool {
    current().is_some_and(|process| process.is_killed())
}

/// Counts a pause of this thread's process, and makes it short; returns `false` where the thread belongs
/// to none. What it waits for is there after a few, or never comes.
pub(crate) fn sleeps() -> bool {
    let Some(process) = current() else {
        return false;
    };
    let count = process.sleeps.fetch_add(1, Ordering::Relaxed);
    std::thread::sleep(PAUSE);
    assert!(
        count < MOST_SLEEPS,
        "the process waits for something that does not come"
    );
    true
}

/// Returns whether a machine in memory listens on a port of the host.
pub(crate) fn is_port_taken(port: u16) -> bool {
    current().is_some_and(|process| (process.is_port_taken)(port))
}
