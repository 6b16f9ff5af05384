//! Looks into component volumes.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// The Kubernetes programs of a volume.
pub const PROGRAMS: [&str; 6] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubectl",
];

/// What Kubernetes does not come with: programs that are in a volume's `/bin`, and programs that
/// are in its images, with the names of these.
pub const EXTRA_PROGRAMS: [&str; 7] = [
    "buildctl",
    "buildkitd",
    "cni",
    "cni-dhcp",
    "containerd",
    "containerd-shim-runc-v2",
    "crictl",
];
/// Other names of these programs in a volume.
pub const EXTRA_NAMES: [(&str, &str); 4] = [
    ("bin/ctr", "containerd"),
    ("cni/bridge", "cni"),
    ("cni/host-local", "cni"),
    ("cni/dhcp", "cni-dhcp"),
];
pub const EXTRA_IMAGES: [(&str, &str); 4] = [
    ("metrics-server", "metrics-server"),
    ("policies", "kube-network-policies"),
    ("registry", "registry"),
    ("storage", "kubby-storage"),
];

/// What a program of [`write_extras`] contains.
pub fn extra(name: &str) -> Vec<u8> {
    format!("#!/bin/sh\necho extra {name}\n").into_bytes()
}

/// Writes small stand-ins for them into `bin` of a folder, so that no test builds them.
pub fn write_extras(dir: &Path) {
    let bin = dir.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let packed = EXTRA_IMAGES.iter().map(|(_, program)| program);
    for name in EXTRA_PROGRAMS.iter().chain(packed) {
        std::fs::write(bin.join(name), extra(name)).unwrap();
        std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// Checks that the programs and images of [`write_extras`] are in an unpacked volume.
pub fn check_extras(volume: &Path) {
    for name in EXTRA_PROGRAMS {
        let found = std::fs::read(volume.join("bin").join(name)).unwrap();
        assert_eq!(found, extra(name), "{name}");
    }
    for (name, program) in EXTRA_NAMES {
        let target = std::fs::read_link(volume.join(name)).unwrap();
        assert_eq!(target, Path::new("../bin").join(program), "{name}");
    }
    for (image, program) in EXTRA_IMAGES {
        assert!(holds(volume, image, &extra(program)), "{image}");
        assert!(!volume.join("bin").join(program).exists(), "{program}");
    }
}

/// Whether the archive of an image in an unpacked volume has `content` in it; layers are looked
/// into.
pub fn holds(volume: &Path, image: &str, content: &[u8]) -> bool {
    let file = std::fs::File::open(volume.join(format!("images/{image}.tar"))).unwrap();
    let mut archive = tar::Archive::new(file);
    archive.entries().unwrap().any(|entry| {
        let mut blob = Vec::new();
        entry.unwrap().read_to_end(&mut blob).unwrap();
        if blob.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            blob = zstd::stream::decode_all(&blob[..]).unwrap();
        }
        blob.windows(content.len()).any(|w| w == content)
    })
}

/// Unpacks a volume into a temporary folder.
pub fn unpacked(volume: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let out = Command::new("fsck.erofs")
        .arg(format!("--extract={}", dir.path().display()))
        .args(["--overwrite"])
        .arg(volume)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    dir
}
