//! The identity of a process, to distinguish files in use from files of an ended process.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A process of a host at a time. Its text form has no line breaks and can be parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessMark {
    id: u32,
    /// The start of the process in ticks after the host's boot, because IDs are reused.
    began: u64,
    /// The boot of the host.
    boot: String,
    /// The process namespace, because IDs of a container are not valid outside.
    namespace: String,
    host: String,
}

impl ProcessMark {
    /// Returns the identity of this process.
    pub fn own() -> Self {
        let id = std::process::id();
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

    /// Returns whether the process has certainly ended. For a process on another host or in another
    /// container, this is never certain.
    pub fn is_gone(&self) -> bool {
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

/// Returns the start of a process, `starttime` in `proc(5)`; `None` if there is no such process.
fn began(id: u32) -> Option<u64> {
    let stat =
        std::fs::read_to_string(Path::new("/proc").join(id.to_string()).join("stat")).ok()?;
    // The program's name, in parentheses, can contain any character; the field is the 22nd of all.
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
