//! Looks into component volumes.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

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
