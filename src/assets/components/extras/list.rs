//! The list of them.

use super::{Extra, Product};
use crate::assets::components::catalog::BUILDCTL;

/// An image with nothing but the program.
const ALONE: Product = Product::Image {
    arguments: &[],
    environment: &[],
    files: &[],
};

/// All of them, those that take longest to build first.
pub(in crate::assets::components) const ALL: [Extra; 11] = [
    Extra {
        module: "buildkit",
        package: "github.com/moby/buildkit/cmd/buildkitd",
        program: "buildkitd",
        stamp: BUILDKIT,
        ..PROGRAM
    },
    // Its client is in it: alone it would have 23 MB, so it has one.
    Extra {
        module: "containerd",
        program: "containerd",
        stamp: CONTAINERD,
        tags: ",no_btrfs,no_devmapper,no_zfs",
        names: &["bin/ctr"],
        ..PROGRAM
    },
    Extra {
        module: "registry",
        program: "registry",
        stamp: "-X github.com/distribution/distribution/v3/version.version=v3.1.2",
        product: Product::Image {
            arguments: &["serve", "/etc/distribution/config.yml"],
            // Otherwise it looks for a collector of traces.
            environment: &["OTEL_TRACES_EXPORTER=none"],
            files: &[("etc/distribution/config.yml", "config.yml")],
        },
        ..PROGRAM
    },
    Extra {
        module: "storage",
        program: "kubby-storage",
        stamp: "-X main.version=0.1.0",
        product: ALONE,
        ..PROGRAM
    },
    Extra {
        module: "crictl",
        package: "sigs.k8s.io/cri-tools/cmd/crictl",
        program: "crictl",
        stamp: "-X sigs.k8s.io/cri-tools/pkg/version.Version=v1.36.0",
        ..PROGRAM
    },
    Extra {
        module: "metrics-server",
        package: "sigs.k8s.io/metrics-server/cmd/metrics-server",
        program: "metrics-server",
        stamp: "-X k8s.io/client-go/pkg/version.gitVersion=v0.9.0",
        product: ALONE,
        ..PROGRAM
    },
    Extra {
        module: "policies",
        package: "sigs.k8s.io/kube-network-policies/cmd",
        program: "kube-network-policies",
        stamp: "-X k8s.io/client-go/pkg/version.gitVersion=v0.8.0",
        product: ALONE,
        ..PROGRAM
    },
    Extra {
        module: "buildkit",
        package: "github.com/moby/buildkit/cmd/buildctl",
        program: BUILDCTL,
        stamp: BUILDKIT,
        ..PROGRAM
    },
    // Not in one program with containerd: each pod runs three of these, and one of 40 MB would
    // start containerd's plugins in each.
    Extra {
        module: "containerd",
        package: "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        program: "containerd-shim-runc-v2",
        stamp: CONTAINERD,
        tags: ",no_grpc",
        ..PROGRAM
    },
    Extra {
        module: "cni",
        program: "cni",
        stamp: CNI,
        names: &[
            "cni/bandwidth",
            "cni/bridge",
            "cni/dummy",
            "cni/firewall",
            "cni/host-device",
            "cni/host-local",
            "cni/ipvlan",
            "cni/loopback",
            "cni/macvlan",
            "cni/portmap",
            "cni/ptp",
            "cni/sbr",
            "cni/static",
            "cni/tap",
            "cni/tuning",
            "cni/vlan",
            "cni/vrf",
        ],
        ..PROGRAM
    },
    // Alone, because with it all other plugins would have twice the size.
    Extra {
        module: "cni",
        package: "github.com/containernetworking/plugins/plugins/ipam/dhcp",
        program: "cni-dhcp",
        stamp: CNI,
        names: &["cni/dhcp"],
        ..PROGRAM
    },
];

/// The fields that most have in common.
const PROGRAM: Extra = Extra {
    module: "",
    package: ".",
    program: "",
    stamp: "",
    tags: "",
    names: &[],
    product: Product::Program,
};

const BUILDKIT: &str = "-X github.com/moby/buildkit/version.Version=v0.34.2";
const CONTAINERD: &str = "-X github.com/containerd/containerd/v2/version.Version=v2.4.2";
const CNI: &str =
    "-X github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion=v1.10.0";
