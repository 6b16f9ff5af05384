//! A limit for calls into the SSH library. They never block, but a peer that sends without end can
//! keep one busy forever (lines before its greeting, packets that say nothing): inside it there is
//! neither a deadline nor Ctrl-C. But the library stops when the socket is shut down.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::interrupt;

/// No call that only takes what is there lasts so long, not even on a busy machine.
const LONGEST: Duration = Duration::from_secs(5);

/// After Ctrl-C.
const LONGEST_INTERRUPTED: Duration = Duration::from_millis(500);

/// The pause between two looks of the thread.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Shuts a socket down when a call on it lasts too long.
pub(super) struct Guard {
    calls: Arc<Calls>,
}

struct Calls {
    began: Instant,
    /// The start of the current call, in milliseconds after `began` plus one; 0 for none.
    since: AtomicU64,
    cut: AtomicBool,
}

impl Calls {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX) + 1
    }

    /// Returns whether the current call lasts too long.
    fn is_stuck(&self) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        let longest = if interrupt::requested() {
            LONGEST_INTERRUPTED
        } else {
            LONGEST
        };
        since != 0 && u128::from(self.now().saturating_sub(since)) > longest.as_millis()
    }
}

impl Guard {
    /// Begins to watch the calls on a socket.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(super) fn new(socket: &Arc<TcpStream>) -> std::io::Result<Guard> {
        let calls = Arc::new(Calls {
            began: Instant::now(),
            since: AtomicU64::new(0),
            cut: AtomicBool::new(false),
        });
        let (watched, socket) = (Arc::downgrade(&calls), Arc::downgrade(socket));
        std::thread::Builder::new()
            .name("ssh guard".into())
            .spawn(move || watch(&watched, &socket))?;
        Ok(Guard { calls })
    }

    /// Makes a call under the limit.
    pub(super) fn during<T>(&self, call: impl FnOnce() -> T) -> T {
        self.calls.since.store(self.calls.now(), Ordering::Relaxed);
        let result = call();
        self.calls.since.store(0, Ordering::Relaxed);
        result
    }

    /// Returns whether a call lasted too long, for which the connection was shut down.
    pub(super) fn has_cut(&self) -> bool {
        self.calls.cut.load(Ordering::Relaxed)
    }
}

/// Looks until the connection is gone.
fn watch(calls: &Weak<Calls>, socket: &Weak<TcpStream>) {
    loop {
        std::thread::sleep(LOOK_EVERY);
        let (Some(calls), Some(socket)) = (calls.upgrade(), socket.upgrade()) else {
            return;
        };
        if calls.is_stuck() {
            calls.cut.store(true, Ordering::Relaxed);
            // Both ways: only then does the kernel refuse what the peer still sends.
            let _ = socket.shutdown(Shutdown::Both);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    #[test]
    fn a_flood_ends_and_short_calls_do_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let flood = std::thread::spawn(move || while peer.write_all(&[0; 65536]).is_ok() {});
        let socket = Arc::new(socket);
        let guard = Guard::new(&socket).unwrap();
        let mut buffer = [0; 4096];
        let begin = Instant::now();
        while begin.elapsed() < LONGEST + Duration::from_secs(1) {
            guard.during(|| (&*socket).read(&mut buffer).unwrap());
        }
        assert!(!guard.has_cut());
        let begin = Instant::now();
        guard.during(|| while (&*socket).read(&mut buffer).is_ok_and(|n| n > 0) {});
        assert!(guard.has_cut());
        assert!(begin.elapsed() < LONGEST * 4, "{:?}", begin.elapsed());
        flood.join().unwrap();
    }
}
