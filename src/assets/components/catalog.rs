//! The programs and images of a set, with their versions.

use crate::error::{Error, Result};

/// The etcd release of every set.
pub(crate) const ETCD_VERSION: &str = "3.7.3";
/// The CoreDNS release of every set.
pub(crate) const COREDNS_VERSION: &str = "1.15.0";
/// The tag of the pause image of every set.
pub(crate) const PAUSE_VERSION: &str = "3.10.2";

/// The images of every set that kubby makes itself: the name of the archive in the volume's
/// `/images`, without `.tar`, and the reference under which the archive is imported.
pub const IMAGES: [(&str, &str); 6] = [
    ("coredns", "registry.k8s.io/coredns/coredns:v1.15.0"),
    (
        "metrics-server",
        "registry.k8s.io/metrics-server/metrics-server:v0.9.0",
    ),
    ("pause", "registry.k8s.io/pause:3.10.2"),
    (
        "policies",
        "registry.k8s.io/networking/kube-network-policies:v0.8.0",
    ),
    ("registry", "docker.io/library/registry:3.1.2"),
    ("storage", "kubby.dev/storage:0.1.0"),
];

/// The client of the image builder, in a volume's `/bin` and on the host.
pub(super) const BUILDCTL: &str = "buildctl";

/// The programs that are on the host as well, beside the volume.
pub(super) const HOST_PROGRAMS: [&str; 2] = ["kubectl", BUILDCTL];

/// The Kubernetes programs of a volume's `/bin`.
pub(super) const KUBERNETES_PROGRAMS: [&str; 6] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubectl",
];

/// Returns the reference of an image in sets that kubby makes itself.
pub(super) fn reference(name: &str) -> Result<&'static str> {
    IMAGES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, reference)| *reference)
        .ok_or_else(|| Error::internal(format!("there is no image {name}")))
}

/// Returns this host's architecture as Kubernetes and Go name it; the node has the same.
///
/// # Errors
/// [`Kind::Preflight`](crate::error::Kind::Preflight) on an architecture that Kubernetes has no releases for.
pub fn arch() -> Result<&'static str> {
    arch_of(std::env::consts::ARCH).ok_or_else(|| {
        Error::preflight(format!(
            "there are no Kubernetes components for the architecture {}",
            std::env::consts::ARCH
        ))
        .with_hint("kubby runs on x86_64 and aarch64")
    })
}

fn arch_of(rust: &str) -> Option<&'static str> {
    match rust {
        "x86_64" => Some("amd64"),
        "aarch64" => Some("arm64"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_name_the_versions_that_are_made() {
        for (name, version) in [("coredns", COREDNS_VERSION), ("pause", PAUSE_VERSION)] {
            let tag = reference(name).unwrap().rsplit(':').next().unwrap();
            assert_eq!(tag.trim_start_matches('v'), version, "{name}");
        }
        assert!(IMAGES.is_sorted());
    }

    #[test]
    fn architectures_are_named_as_the_releases_name_them() {
        assert_eq!(arch_of("x86_64"), Some("amd64"));
        assert_eq!(arch_of("aarch64"), Some("arm64"));
        assert_eq!(arch_of("riscv64"), None);
    }
}
