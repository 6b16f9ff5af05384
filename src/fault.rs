//! The places at which a test can end kubby: before and after each step that changes something.
//!
//! All builds but releases have them (see `build.rs`). There `KUBBY_FAULT` names one,
//!
//! ```text
//! KUBBY_FAULT="after define=kill"       the first time that a start gets there: SIGKILL
//! KUBBY_FAULT="before upload#3=int"     the third time: SIGINT, as Ctrl-C
//! KUBBY_FAULT="after start=stop"        SIGSTOP: kubby stands still until SIGCONT
//! ```
//!
//! and `KUBBY_FAULT_LOG` a file to which each is appended as it is passed, `define#1`, so that a
//! test can take all that a command comes by.

/// Runs a step that changes something, with a place before it and one after it.
pub(crate) fn step<T>(name: &str, step: impl FnOnce() -> T) -> T {
    point("before", name);
    let result = step();
    point("after", name);
    result
}

/// Marks a place in the middle of something, such as `point("staged", "write profile.toml")`.
pub(crate) fn point(when: &str, name: &str) {
    point_leaving(when, name, || {});
}

/// Does what [`point`] does; `leave` keeps this thread from cleaning up where a test only simulates
/// that the process is killed.
#[cfg(not(faults))]
pub(crate) fn point_leaving(_when: &str, _name: &str, _leave: impl FnOnce()) {}

/// Returns whether a test simulates that this process is killed: then nothing cleans up.
pub(crate) fn is_killed() -> bool {
    #[cfg(test)]
    if crate::process::simulated::is_killed() {
        return true;
    }
    false
}

#[cfg(faults)]
pub(crate) use armed::point_leaving;

#[cfg(faults)]
mod armed {
    use std::collections::HashMap;
    use std::io::Write as _;
    use std::sync::{LazyLock, Mutex, PoisonError};

    use rustix::process::{Signal, getpid, kill_process};

    /// The fault that `KUBBY_FAULT` asks for.
    #[derive(Debug, PartialEq, Eq)]
    struct Fault {
        place: String,
        count: u32,
        signal: Signal,
    }

    impl Fault {
        fn parse(text: &str) -> Option<Self> {
            let (place, signal) = text.rsplit_once('=')?;
            let (place, count) = match place.rsplit_once('#') {
                Some((place, count)) => (place, count.parse().ok()?),
                None => (place, 1),
            };
            let signal = match signal {
                "kill" => Signal::KILL,
                "int" => Signal::INT,
                "term" => Signal::TERM,
                "stop" => Signal::STOP,
                _ => return None,
            };
            Some(Fault {
                place: place.to_owned(),
                count,
                signal,
            })
        }
    }

    /// A test that asks for a fault that does not exist fails.
    static FAULT: LazyLock<Option<Fault>> = LazyLock::new(|| {
        let text = std::env::var("KUBBY_FAULT").ok()?;
        let fault = Fault::parse(&text);
        assert!(fault.is_some(), "KUBBY_FAULT={text} makes no sense");
        fault
    });
    static LOG: LazyLock<Option<std::ffi::OsString>> =
        LazyLock::new(|| std::env::var_os("KUBBY_FAULT_LOG"));
    static PASSED: LazyLock<Mutex<HashMap<String, u32>>> = LazyLock::new(Mutex::default);

    /// Counts the place, and sends the signal where it is the one of `KUBBY_FAULT`.
    pub(crate) fn point_leaving(when: &str, name: &str, leave: impl FnOnce()) {
        #[cfg(test)]
        if crate::process::simulated::pass(|| format!("{when} {}", plain(name)), leave) {
            return;
        }
        #[cfg(not(test))]
        drop(leave);
        if FAULT.is_none() && LOG.is_none() {
            return;
        }
        let place = format!("{when} {}", plain(name));
        let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
        let count = passed.entry(place.clone()).or_default();
        *count += 1;
        if let Some(log) = LOG.as_ref() {
            let file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(log);
            let written = file.and_then(|mut file| writeln!(file, "{place}#{count}"));
            assert!(written.is_ok(), "cannot write {}", log.display());
        }
        if let Some(fault) = FAULT.as_ref()
            && fault.place == place
            && fault.count == *count
        {
            let sent = kill_process(getpid(), fault.signal);
            assert!(sent.is_ok(), "a process may signal itself");
        }
    }

    /// Names of files have ids and numbers of processes in them, which differ each time.
    fn plain(name: &str) -> &str {
        let id = name
            .match_indices('-')
            .find(|(at, _)| name[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
        id.map_or(name, |(at, _)| &name[..at])
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn faults_are_read() {
            let fault = Fault::parse("before upload#3=int").unwrap();
            assert_eq!((fault.place.as_str(), fault.count), ("before upload", 3));
            assert_eq!(fault.signal, Signal::INT);
            assert_eq!(Fault::parse("after define=kill").unwrap().count, 1);
            for bad in ["after define", "after define=hup", "x#y=kill"] {
                assert_eq!(Fault::parse(bad), None, "{bad}");
            }
        }

        #[test]
        fn names_lose_what_differs_each_time() {
            assert_eq!(plain("copy .fork-4711"), "copy .fork");
            assert_eq!(plain("write kube-proxy.crt"), "write kube-proxy.crt");
        }
    }
}
