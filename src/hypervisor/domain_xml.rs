//! A node's virtual machine as libvirt's domain XML: pure rendering, no libvirt.

use std::path::{Path, PathBuf};

use askama::Template;
use uuid::Uuid;

use super::accel::Acceleration;
use super::forward::{NETDEV, PortForward};
use super::kernel_args;
use super::objects::Owner;
use super::owner::NAMESPACE;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::units::Mebibytes;

/// The specification of a node's virtual machine. Paths are those of the host that libvirt runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainSpec {
    /// The name in libvirt.
    pub name: String,
    /// The identity, recorded in the profile.
    pub uuid: Uuid,
    /// One line for listings such as virt-manager's.
    pub title: String,
    /// The purpose of this machine, and the command that removes it.
    pub description: String,
    /// The home and the profile that it belongs to.
    pub owner: Owner,
    /// Hardware virtualisation or software emulation.
    pub acceleration: Acceleration,
    /// The guest's memory.
    pub memory: Mebibytes,
    /// The guest's processors.
    pub cpus: u32,
    /// The kernel to boot.
    pub kernel: String,
    /// The initial RAM disk.
    pub initrd: String,
    /// The kernel's arguments; the serial console and, with emulation, `mitigations=off` are
    /// added unless the list has a word on them.
    pub kernel_args: Vec<String>,
    /// The qcow2 overlay that the node runs on, `/dev/vda`.
    pub root_disk: String,
    /// The raw read-only volume of the components, `/dev/vdb`.
    pub components: String,
    /// The raw read-only volume of this node's seed, `/dev/vdc`.
    pub seed: String,
    /// The file that gets the serial console's output; emptied at each start.
    pub console_log: String,
    /// The path of the host's channel into the guest, without the endings of its two pipes;
    /// nothing where the pipes cannot be made, such as on another host.
    pub channel: Option<String>,
    /// The ports of the host that lead into the guest.
    pub forwards: Vec<PortForward>,
}

/// The memory that a machine begins with instead of booting: a file that holds another machine's,
/// mapped so that what is written stays this machine's own. Paths are those of libvirt's host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// The file with the memory's pages.
    pub memory: String,
    /// The offset of the first page in it, in bytes.
    pub offset: u64,
    /// The file with the devices' states.
    pub devices: String,
}

/// QEMU's name for the memory of a machine that begins with another one's. It is as long as
/// `pc.ram`, libvirt's usual name, so that the name can be changed in place in a saved stream.
pub(crate) const MAPPED_MEMORY: &str = "kb.ram";

#[derive(Template)]
#[template(path = "domain.xml")]
struct DomainTemplate<'a> {
    spec: &'a DomainSpec,
    home: &'a str,
    namespace: &'static str,
    tcg: bool,
    cmdline: String,
    netdev: String,
    incoming: Option<String>,
    quick_cpu: bool,
}

/// Renders the domain XML for libvirt's QEMU driver.
///
/// # Errors
/// [`Kind::Usage`] when a name or path has a character that XML or the kernel's command line
/// cannot carry.
pub(crate) fn render(spec: &DomainSpec) -> Result<String> {
    render_with(spec, None, false)
}

/// Renders the domain XML for one run that begins with another machine's memory. libvirt has no
/// element for a memory file of a given path, so QEMU gets arguments of its own; they have to stay
/// out of the definition that later starts use.
///
/// # Errors
/// As [`render`]; also for a path with a comma, which QEMU's arguments cannot carry plainly.
///
/// With `quick_cpu` libvirt does not ask QEMU for each feature of the processor by its name: it
/// would ask 285 times, which is half of the time that QEMU's start takes, and the answers are
/// those of the machine that was saved. A libvirt that does not know the setting refuses the whole.
pub(crate) fn render_incoming(
    spec: &DomainSpec,
    incoming: &Incoming,
    quick_cpu: bool,
) -> Result<String> {
    super::storage_xml::check_text("path of the memory file", &incoming.memory)?;
    let object = format!(
        "memory-backend-file,id={MAPPED_MEMORY},size={}M,mem-path={},offset={},share=off,readonly=on,rom=off",
        spec.memory.0,
        // A comma ends a value in QEMU's arguments unless it is doubled.
        incoming.memory.replace(',', ",,"),
        incoming.offset
    );
    render_with(spec, Some(object), quick_cpu)
}

fn render_with(spec: &DomainSpec, incoming: Option<String>, quick_cpu: bool) -> Result<String> {
    let home = spec.owner.home.to_str().ok_or_else(|| {
        Error::usage(format!(
            "the home directory {} is not valid UTF-8",
            spec.owner.home.display()
        ))
    })?;
    check_texts(spec, home)?;
    DomainTemplate {
        spec,
        home,
        namespace: NAMESPACE,
        tcg: spec.acceleration == Acceleration::Tcg,
        cmdline: kernel_args::command_line(&spec.kernel_args, spec.acceleration)?,
        // What connects before the machine is loaded is lost with what QEMU's network was then, and
        // its client waits for nothing: a run from saved memory gets its ports when it is loaded.
        netdev: netdev_argument(if incoming.is_some() {
            &[]
        } else {
            &spec.forwards
        }),
        incoming,
        quick_cpu,
    }
    .render()
    .context(Kind::Internal, || {
        format!("cannot render the definition of {}", spec.name)
    })
}

/// Reads the file of the disk that the node runs on from a domain's XML.
pub(crate) fn root_disk(xml: &str) -> Option<PathBuf> {
    let document = roxmltree::Document::parse(xml).ok()?;
    let disks = document.descendants().filter(|n| n.has_tag_name("disk"));
    let part = |disk: roxmltree::Node<'_, '_>, name: &str, attribute: &str| {
        let found = disk.children().find(|n| n.has_tag_name(name))?;
        found.attribute(attribute).map(PathBuf::from)
    };
    disks
        .into_iter()
        .find(|disk| part(*disk, "target", "dev").as_deref() == Some(Path::new("vda")))
        .and_then(|disk| part(disk, "source", "file"))
}

/// Reads the file that a domain's memory is mapped from, from its XML; `None` for an ordinary one.
pub(crate) fn mapped_memory(xml: &str) -> Option<PathBuf> {
    let document = roxmltree::Document::parse(xml).ok()?;
    let mut arguments = document.descendants().filter_map(|n| n.attribute("value"));
    let object = arguments
        .find(|value| value.starts_with(&format!("memory-backend-file,id={MAPPED_MEMORY},")))?;
    let (_, path) = object.split_once("mem-path=")?;
    // Commas in the path are doubled.
    let (path, _) = path.split_once(",offset=")?;
    Some(path.replace(",,", ",").into())
}

/// Refuses control characters: they have no form in XML, and a line break in a path would come back
/// as a space.
fn check_texts(spec: &DomainSpec, home: &str) -> Result<()> {
    let texts = [
        ("name", spec.name.as_str()),
        ("title", &spec.title),
        ("profile name", &spec.owner.profile),
        ("home directory", home),
        ("version", &spec.owner.version),
        ("kernel path", &spec.kernel),
        ("initrd path", &spec.initrd),
        ("root disk path", &spec.root_disk),
        ("component volume path", &spec.components),
        ("seed volume path", &spec.seed),
        ("console log path", &spec.console_log),
        ("channel path", spec.channel.as_deref().unwrap_or_default()),
    ];
    for (what, text) in texts {
        super::storage_xml::check_text(what, text)?;
    }
    spec.description
        .lines()
        .try_for_each(|line| super::storage_xml::check_text("description", line))
}

/// Returns QEMU's argument for its user-mode network; only numbers are put in, so nothing has to be
/// quoted.
fn netdev_argument(forwards: &[PortForward]) -> String {
    let mut netdev = format!("user,id={NETDEV},ipv6=off");
    for forward in forwards {
        netdev.push_str(&format!(",hostfwd={}", forward.rule()));
    }
    netdev
}

/// Returns the domain of a machine, for tests.
#[cfg(test)]
pub(crate) fn example(acceleration: Acceleration) -> DomainSpec {
    DomainSpec {
        name: "kubby-dev".into(),
        uuid: Uuid::from_u128(0x1234),
        title: "kubby profile dev".into(),
        description: "Made by kubby; remove it with: kubby delete dev".into(),
        owner: Owner {
            profile: "dev".into(),
            home: "/home/user/.kubby".into(),
            version: "0.1.0".into(),
        },
        acceleration,
        memory: Mebibytes(3072),
        cpus: 2,
        kernel: "/pool/vmlinuz-1".into(),
        initrd: "/pool/initrd-1".into(),
        kernel_args: vec!["root=/dev/vda".into(), "rw".into(), "quiet".into()],
        root_disk: "/pool/dev.qcow2".into(),
        components: "/pool/components-1".into(),
        seed: "/pool/dev-seed".into(),
        console_log: "/pool/dev-console.log".into(),
        channel: Some("/pool/dev.channel".into()),
        forwards: vec![PortForward::tcp(40022, 22), PortForward::tcp(46443, 6443)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use example as spec;

    #[test]
    fn emulated_domain() {
        insta::assert_snapshot!(render(&spec(Acceleration::Tcg)).unwrap());
    }

    #[test]
    fn kvm_differs_in_type_processor_and_kernel_arguments_only() {
        let tcg = render(&spec(Acceleration::Tcg)).unwrap();
        let kvm = render(&spec(Acceleration::Kvm)).unwrap();
        let differing: Vec<&str> = kvm.lines().filter(|l| !tcg.contains(l)).collect();
        insta::assert_snapshot!(differing.join("\n"));
        assert!(!kvm.contains("tb-cache") && !kvm.contains("mitigations"));
    }

    #[test]
    fn every_text_is_escaped_and_comes_back_whole() {
        let nasty = "a<b>&\"c' ]]>,d";
        let mut s = spec(Acceleration::Kvm);
        s.title = nasty.into();
        s.description = nasty.into();
        s.owner.profile = nasty.into();
        s.owner.home = nasty.into();
        s.root_disk = nasty.into();
        s.console_log = nasty.into();
        s.kernel_args = vec!["a=<&\"'>".into()];
        let xml = render(&s).unwrap();
        let document = roxmltree::Document::parse(&xml).unwrap();
        let text = |name: &str| {
            document
                .descendants()
                .find(|n| n.has_tag_name(name))
                .and_then(|n| n.text())
                .unwrap()
        };
        assert_eq!(text("title"), nasty);
        assert_eq!(text("description"), nasty);
        assert_eq!(text("cmdline"), "a=<&\"'> console=ttyS0");
        let sources: Vec<_> = document
            .descendants()
            .filter(|n| n.has_tag_name("source"))
            .filter_map(|n| n.attribute("file").or(n.attribute("path")))
            .collect();
        assert_eq!(
            sources,
            [
                nasty,
                "/pool/components-1",
                "/pool/dev-seed",
                nasty,
                "/pool/dev.channel"
            ]
        );
        assert_eq!(Owner::parse(&xml).unwrap(), s.owner);
        assert_eq!(root_disk(&xml).as_deref(), Some(Path::new(nasty)));
    }

    #[test]
    fn what_xml_or_the_kernel_cannot_carry_is_refused() {
        let mut s = spec(Acceleration::Kvm);
        s.console_log = "/pool/a\nb".into();
        let e = render(&s).unwrap_err();
        assert_eq!(e.kind(), Kind::Usage);
        assert!(e.message().contains("console log path"), "{e}");
        for arg in ["", "a b", "a\tb", "a\0"] {
            let mut s = spec(Acceleration::Kvm);
            s.kernel_args = vec![arg.into()];
            assert!(
                render(&s)
                    .unwrap_err()
                    .message()
                    .contains("kernel argument"),
                "{arg:?}"
            );
        }
    }

    #[test]
    fn a_run_from_memory_differs_in_its_arguments_only() {
        let incoming = Incoming {
            memory: "/pool/a,b.mem".into(),
            offset: 1 << 20,
            devices: "/pool/a.dev".into(),
        };
        let spec = spec(Acceleration::Tcg);
        let plain = render(&spec).unwrap();
        let mapped = render_incoming(&spec, &incoming, false).unwrap();
        let differing: Vec<&str> = mapped.lines().filter(|l| !plain.contains(l)).collect();
        insta::assert_snapshot!(differing.join("\n"));
        let quick = render_incoming(&spec, &incoming, true).unwrap();
        let more: Vec<&str> = quick.lines().filter(|l| !mapped.contains(l)).collect();
        assert_eq!(more.len(), 3, "{more:?}");
        assert!(quick.contains("<qemu:del capability=\"cpu-unavailable-features\"/>"));
        let file = Path::new("/pool/a,b.mem");
        assert_eq!(mapped_memory(&mapped).as_deref(), Some(file));
        assert_eq!(mapped_memory(&plain), None);
        assert_eq!(MAPPED_MEMORY.len(), "pc.ram".len());
    }

    #[test]
    fn forwards_are_bound_to_loopback() {
        let two = [PortForward::tcp(1, 22), PortForward::tcp(65535, 6443)];
        assert_eq!(
            netdev_argument(&two),
            "user,id=kubby0,ipv6=off,hostfwd=tcp:127.0.0.1:1-:22,hostfwd=tcp:127.0.0.1:65535-:6443"
        );
        assert_eq!(netdev_argument(&[]), "user,id=kubby0,ipv6=off");
    }

    #[test]
    fn serials_match_the_template() {
        let xml = render(&spec(Acceleration::Kvm)).unwrap();
        for serial in ["root", "components", "seed"] {
            assert!(xml.contains(&format!("<serial>{serial}</serial>")));
            assert!(serial.len() <= 20, "virtio cuts a longer serial");
        }
    }
}
