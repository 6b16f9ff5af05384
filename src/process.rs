//! The identity of a process, which distinguishes the leftovers of an ended one from the work of a
//! running one.

#[cfg(test)]
pub(crate) mod simulated;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// Returns the id of this process.
pub(crate) fn id() -> u32 {
    #[cfg(test)]
    if let Some(id) = simulated::id() {
        return id;
    }
    std::process::id()
}

/// Returns whether a process with this id runs.
pub(crate) fn is_running(id: u32) -> bool {
    #[cfg(test)]
    if simulated::id() == Some(id) {
        return true;
    }
    Path::new("/proc").join(id.to_string()).exists()
}

/// A process of some host at some time. Its text has no line breaks, and is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessMark {
    id: u32,
    /// Ids are used again: ticks from the host's boot to the process's begin.
    began: u64,
    /// The boot of the host.
    boot: String,
    /// The process namespace: an id of a container's means nothing outside.
    namespace: String,
    host: String,
}

impl ProcessMark {
    /// Returns the mark of this process.
    pub(crate) fn own() -> Self {
        let id = id();
        ProcessMark {
            id,
            began: began(id).unwrap_or_default(),
            boot: read("/proc/sys/kernel/random/boot_id"),
            namespace: std::fs::read_link("/proc/self/ns/pid")
                .map(|link| link.to_string_lossy().into_owned())
                .unwrap_or_default(),
            host: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
        }
    }

    /// Returns whether it is certain that the process has ended. That is never certain on another
    /// host, or in another container.
    pub(crate) fn is_gone(&self) -> bool {
        let here = ProcessMark::own();
        if self.host != here.host {
            return false;
        }
        if self.boot != here.boot {
            return true;
        }
        self.namespace == here.namespace && began(self.id) != Some(self.began)
    }
}

impl fmt::Display for ProcessMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} {} {}",
            self.id, self.began, self.boot, self.namespace, self.host
        )
    }
}

impl FromStr for ProcessMark {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split_whitespace();
        let mut word = || words.next().ok_or(());
        Ok(ProcessMark {
            id: word()?.parse().map_err(drop)?,
            began: word()?.parse().map_err(drop)?,
            boot: word()?.to_owned(),
            namespace: word()?.to_owned(),
            host: word()?.to_owned(),
        })
    }
}

/// Returns the start of a process, `proc(5)`'s `starttime`; `None` where there is no such process.
fn began(id: u32) -> Option<u64> {
    #[cfg(test)]
    if simulated::id() == Some(id) {
        return Some(0);
    }
    let stat =
        std::fs::read_to_string(Path::new("/proc").join(id.to_string()).join("stat")).ok()?;
    // The program's name, in parentheses, may hold anything; the field is the 22nd of all.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

fn read(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_tells_the_living_from_the_dead() {
        let own = ProcessMark::own();
        assert_eq!(own.to_string().parse(), Ok(own.clone()));
        assert!(!own.is_gone());

        let mut child = std::process::Command::new("true").spawn().unwrap();
        let mark = ProcessMark {
            id: child.id(),
            began: began(child.id()).unwrap(),
            ..own.clone()
        };
        child.wait().unwrap();
        assert!(mark.is_gone());

        // The same id, but another process.
        let reused = ProcessMark {
            began: own.began + 1,
            ..own.clone()
        };
        assert!(reused.is_gone());
        let before_reboot = ProcessMark {
            boot: "another".into(),
            ..own.clone()
        };
        assert!(before_reboot.is_gone());
    }

    #[test]
    fn of_other_hosts_and_containers_nothing_is_certain() {
        let own = ProcessMark::own();
        let elsewhere = ProcessMark {
            id: u32::MAX,
            host: "elsewhere".into(),
            boot: "another".into(),
            ..own.clone()
        };
        assert!(!elsewhere.is_gone());
        let contained = ProcessMark {
            id: u32::MAX,
            namespace: "pid:[1]".into(),
            ..own
        };
        assert!(!contained.is_gone());
        for bad in ["", "12", "x 1 b n h", "1 2 boot ns"] {
            assert_eq!(bad.parse::<ProcessMark>(), Err(()), "{bad}");
        }
    }
}
