//! The host that the virtual machines run on, as libvirt describes it.

use std::fmt;
use std::time::Duration;

use roxmltree::{Document, Node};

use crate::error::{Kind, Result, ResultExt};
use crate::units::Mebibytes;

/// A version as libvirt encodes it: `major * 1000000 + minor * 1000 + micro`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// The third number.
    pub micro: u32,
}

impl Version {
    /// Returns the version `major.minor.micro`.
    pub const fn new(major: u32, minor: u32, micro: u32) -> Self {
        Version {
            major,
            minor,
            micro,
        }
    }

    /// Decodes libvirt's number.
    pub const fn decode(number: u32) -> Self {
        Version::new(number / 1_000_000, number / 1000 % 1000, number % 1000)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// The host of the virtual machines, which is another one where the URI is remote.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostInfo {
    /// The URI of the connection.
    pub uri: String,
    /// The version of the libvirt daemon.
    pub libvirt_version: Version,
    /// The version of QEMU.
    pub qemu_version: Version,
    /// The number of processors.
    pub cpus: u32,
    /// The whole memory.
    pub memory: Mebibytes,
    /// The memory that new programs can use without swapping; for a remote host only what is
    /// unused, caches not counted in.
    pub available_memory: Mebibytes,
    /// The domain types for x86-64 guests, such as `qemu` and `kvm`.
    pub domain_types: Vec<String>,
    /// The path of QEMU for x86-64 guests.
    pub emulator: Option<String>,
    /// The user and group ids that QEMU runs as, where libvirt switches to another user.
    pub qemu_ids: Option<(u32, u32)>,
    /// The security models with which libvirt confines QEMU, such as `apparmor`, `selinux` and
    /// `dac`.
    pub security_models: Vec<String>,
}

impl HostInfo {
    /// Returns whether this is the host that kubby itself runs on.
    pub fn is_local(&self) -> bool {
        is_local(&self.uri)
    }

    /// Returns whether libvirt lists the domain type `kvm`. KVM needs it, but may not work with it either,
    /// see [`accel`](super::accel).
    pub fn has_kvm(&self) -> bool {
        self.domain_types.iter().any(|t| t == "kvm")
    }
}

/// Returns whether the URI leads to libvirt on this host, so that its paths are paths here as well.
pub(crate) fn is_local(uri: &str) -> bool {
    let Some((_, rest)) = uri.split_once("://") else {
        return true;
    };
    rest.is_empty() || rest.starts_with(['/', '?'])
}

/// Returns the time that the host's processors, all together, have had nothing to do since it
/// booted; `None` for another host.
pub(crate) fn spare_time(uri: &str) -> Option<Duration> {
    let text = is_local(uri).then(|| std::fs::read_to_string("/proc/stat"))?;
    spare_of(&text.ok()?, rustix::param::clock_ticks_per_second())
}

/// Reads the idle time and that of waits for disks from the first line of `/proc/stat`, see
/// proc_stat(5).
fn spare_of(stat: &str, ticks_per_second: u64) -> Option<Duration> {
    let mut fields = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace();
    let idle: u64 = fields.nth(3)?.parse().ok()?;
    let disks: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis(
        (idle + disks) * 1000 / ticks_per_second,
    ))
}

impl HostInfo {
    /// Reads the document that libvirt's `virConnectGetCapabilities` returns; what it does not say is
    /// left empty.
    ///
    /// # Errors
    /// [`Kind::Hypervisor`] when it is not XML.
    pub(super) fn of_capabilities(xml: &str) -> Result<Self> {
        let document = Document::parse(xml).context(Kind::Hypervisor, || {
            "cannot read libvirt's capabilities".into()
        })?;
        let root = document.root_element();
        let arch = elements(root, "guest")
            .flat_map(|guest| elements(guest, "arch"))
            .find(|arch| arch.attribute("name") == Some("x86_64"));
        let of_arch = |name| arch.into_iter().flat_map(move |arch| elements(arch, name));
        let models = root.descendants().filter(|n| n.has_tag_name("secmodel"));
        let model = |n: Node<'_, '_>| elements(n, "model").next()?.text().map(str::to_owned);
        Ok(HostInfo {
            domain_types: of_arch("domain")
                .filter_map(|domain| domain.attribute("type").map(str::to_owned))
                .collect(),
            emulator: of_arch("emulator").find_map(|e| e.text().map(str::to_owned)),
            qemu_ids: models
                .clone()
                .filter(|n| model(*n).as_deref() == Some("dac"))
                .flat_map(|n| elements(n, "baselabel"))
                .find_map(|label| parse_dac_label(label.text()?)),
            security_models: models.filter_map(model).collect(),
            ..HostInfo::default()
        })
    }
}

fn elements<'a, 'i>(
    parent: Node<'a, 'i>,
    name: &'static str,
) -> impl Iterator<Item = Node<'a, 'i>> {
    parent.children().filter(move |n| n.has_tag_name(name))
}

/// Reads `+64055:+107`.
fn parse_dac_label(text: &str) -> Option<(u32, u32)> {
    let (user, group) = text.trim().split_once(':')?;
    let number = |s: &str| s.strip_prefix('+').unwrap_or(s).parse().ok();
    Some((number(user)?, number(group)?))
}

/// Reads a figure of a text in the form of `/proc/meminfo`, such as `MemTotal` or `MemAvailable`.
pub fn meminfo(text: &str, name: &str) -> Option<Mebibytes> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(key, _)| *key == name)?;
    let kib: u64 = value.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Mebibytes(kib / 1024))
}

/// Returns a host with plenty of everything, for tests.
#[cfg(test)]
pub(crate) fn example() -> HostInfo {
    HostInfo {
        uri: "qemu:///session".into(),
        libvirt_version: Version::new(11, 3, 0),
        qemu_version: Version::new(10, 0, 2),
        cpus: 8,
        memory: Mebibytes(32 * 1024),
        available_memory: Mebibytes(24 * 1024),
        domain_types: vec!["qemu".into(), "kvm".into()],
        emulator: Some("/usr/bin/qemu-system-x86_64".into()),
        qemu_ids: None,
        security_models: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPABILITIES: &str = "<capabilities>
  <host>
    <secmodel><model>apparmor</model><doi>0</doi></secmodel>
    <secmodel>
      <model>dac</model><doi>0</doi>
      <baselabel type='kvm'>+64055:+107</baselabel>
      <baselabel type='qemu'>+64055:+107</baselabel>
    </secmodel>
  </host>
  <guest>
    <os_type>hvm</os_type>
    <arch name='i686'><emulator>/usr/bin/qemu-system-i386</emulator><domain type='qemu'/></arch>
  </guest>
  <guest>
    <os_type>hvm</os_type>
    <arch name='x86_64'>
      <wordsize>64</wordsize>
      <emulator>/usr/bin/qemu-system-x86_64</emulator>
      <machine maxCpus='288'>pc-q35-10.0</machine>
      <domain type='qemu'/>
      <domain type='kvm'/>
    </arch>
  </guest>
</capabilities>";

    #[test]
    fn capabilities_of_x86_64_are_read() {
        let c = HostInfo::of_capabilities(CAPABILITIES).unwrap();
        assert_eq!(c.domain_types, ["qemu", "kvm"]);
        assert_eq!(c.emulator.as_deref(), Some("/usr/bin/qemu-system-x86_64"));
        assert_eq!(c.qemu_ids, Some((64055, 107)));
        assert_eq!(c.security_models, ["apparmor", "dac"]);
    }

    #[test]
    fn a_host_without_qemu_has_no_domain_types() {
        let c = HostInfo::of_capabilities("<capabilities><host/></capabilities>").unwrap();
        assert_eq!(c, HostInfo::default());
        assert!(HostInfo::of_capabilities("no xml").is_err());
    }

    #[test]
    fn a_host_in_the_uri_makes_it_remote() {
        for uri in [
            "qemu:///system",
            "qemu:///session?socket=/x",
            "test:///default",
            "qemu+unix:///system",
        ] {
            assert!(is_local(uri), "{uri}");
        }
        for uri in [
            "qemu+ssh://me@host/system",
            "qemu://host/system",
            "qemu+tls://host",
        ] {
            assert!(!is_local(uri), "{uri}");
        }
    }

    #[test]
    fn versions_decode_and_compare() {
        assert_eq!(Version::decode(10_000_002), Version::new(10, 0, 2));
        assert_eq!(Version::decode(9_000_000).to_string(), "9.0.0");
        assert!(Version::new(7, 2, 22) < Version::new(10, 0, 0));
    }

    #[test]
    fn spare_time_is_idle_time_and_waits_for_disks() {
        let text = "cpu  50 1 20 1000 234 0 5 0 0 0\ncpu0 25 1 10 500 100 0 3 0 0 0\n";
        assert_eq!(spare_of(text, 100), Some(Duration::from_millis(12_340)));
        assert_eq!(spare_of("cpu0 25 1 10 500 100", 100), None);
        let before = spare_time("qemu:///system").unwrap();
        assert!(spare_time("qemu:///system").unwrap() >= before);
        assert_eq!(spare_time("qemu+ssh://elsewhere/system"), None);
    }

    #[test]
    fn available_memory_is_not_free_memory() {
        let text = "MemTotal: 8192 kB\nMemFree: 1024 kB\nMemAvailable:    4096 kB\n";
        assert_eq!(meminfo(text, "MemAvailable"), Some(Mebibytes(4)));
        assert_eq!(meminfo(text, "MemTotal"), Some(Mebibytes(8)));
        assert_eq!(meminfo(text, "Mem"), None);
        assert_eq!(meminfo("MemTotal: many\n", "MemTotal"), None);
    }
}
