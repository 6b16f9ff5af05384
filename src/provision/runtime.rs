//! The component volume, containerd and the pod network.

use serde_json::json;

use super::{COMPONENTS_DIR, Inputs, NODE_POD_CIDR, Unit, Wanted, egress, public};

/// The component volume's disk in the node.
pub const DEVICE: &str = "/dev/disk/by-id/virtio-components";

/// Its file system.
pub const FILE_SYSTEM: &str = "erofs";

/// How it is mounted.
pub const MOUNT_OPTIONS: &str = "ro,nodev";

/// systemd's name for the mount of [`COMPONENTS_DIR`].
pub const MOUNT: &str = "opt-kubby.mount";

const CNI_CONFIG: &str = "/etc/cni/net.d/10-kubby.conflist";
const CONTAINERD_CONFIG: &str = "/etc/containerd/config.toml";
const IMPORT_SCRIPT: &str = "/usr/local/lib/kubby/import-images";

pub fn wanted(inputs: &Inputs<'_>) -> Wanted {
    Wanted {
        files: vec![
            public(CNI_CONFIG, cni_config()),
            public(CONTAINERD_CONFIG, containerd_config(inputs.pause_image)),
            super::NodeFile {
                mode: 0o755,
                ..public(IMPORT_SCRIPT, import_script())
            },
        ],
        units: vec![mount(), containerd(), import_images()],
        ..Wanted::default()
    }
}

fn mount() -> Unit {
    Unit {
        name: MOUNT.to_owned(),
        description: "Kubernetes components (read-only volume)".to_owned(),
        section: "Mount",
        lines: vec![
            ("What", DEVICE.into()),
            ("Where", COMPONENTS_DIR.into()),
            ("Type", FILE_SYSTEM.into()),
            ("Options", MOUNT_OPTIONS.into()),
        ],
        ..Unit::default()
    }
}

/// containerd is Debian's; its unit is kubby's, so that it belongs to the target as all others do.
fn containerd() -> Unit {
    Unit::service(
        "containerd",
        "containerd container runtime",
        &["/usr/bin/containerd".into()],
    )
    .line("Type", "notify")
    .line("ExecStartPre", "-/sbin/modprobe overlay")
    // Containers outlive a restart of containerd, as their shims do.
    .line("KillMode", "process")
    .line("Delegate", "yes")
    .line("TasksMax", "infinity")
    .line("OOMScoreAdjust", "-999")
    .line(
        "EnvironmentFile",
        format!("-{}", egress::CONTAINERD_ENVIRONMENT),
    )
    .reads([
        CONTAINERD_CONFIG,
        egress::CONTAINERD_ENVIRONMENT,
        egress::AUTHORITIES,
    ])
}

/// The sandbox image of the component volume, which every pod needs; a unit, so that nothing but
/// pods waits for it.
fn import_images() -> Unit {
    Unit {
        name: "kubby-images.service".to_owned(),
        description: "Import the sandbox image of the component volume".to_owned(),
        section: "Service",
        lines: vec![
            ("Type", "oneshot".into()),
            ("RemainAfterExit", "yes".into()),
            ("ExecStart", IMPORT_SCRIPT.into()),
        ],
        ..Unit::default()
    }
    .requires(&[MOUNT, "containerd.service"])
    .reads([IMPORT_SCRIPT])
}

/// Imports an archive once: the mark holds its size, which another build hardly shares, and the
/// name carries the version.
fn import_script() -> String {
    format!(
        r#"#!/bin/sh
# Imports images of the component volume into containerd, each once.
set -eu
marks=/var/lib/kubby/images
mkdir -p "$marks"
for archive in {COMPONENTS_DIR}/images/pause.tar; do
    mark="$marks/$(basename "$archive").$(stat -c %s "$archive")"
    [ -e "$mark" ] && continue
    ctr --namespace k8s.io images import --local "$archive" 2>/dev/null ||
        ctr --namespace k8s.io images import "$archive"
    touch "$mark"
done
"#
    )
}

/// CNI configuration (cniVersion at most 1.0.0 for Debian's containerd 1.7).
fn cni_config() -> String {
    let config = json!({
        "cniVersion": "1.0.0",
        "name": "kubby",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "ipMasq": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": NODE_POD_CIDR}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    format!("{config:#}\n")
}

fn containerd_config(pause_image: &str) -> String {
    format!(
        r#"# Written by kubby; `kubby start` puts it back as it was.
version = 2

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause_image}"

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = true
"#
    )
}
