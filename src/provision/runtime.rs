//! The component volume, containerd and the pod network.

use serde_json::json;

use super::{COMPONENTS_DIR, Inputs, Unit, Wanted, binary, egress, public};
use crate::network::Cidr;

/// The component volume's disk in the node.
pub const DEVICE: &str = "/dev/disk/by-id/virtio-components";

/// Its file system.
pub const FILE_SYSTEM: &str = "erofs";

/// How it is mounted.
pub const MOUNT_OPTIONS: &str = "ro,nodev";

/// systemd's name for the mount of [`COMPONENTS_DIR`].
pub const MOUNT: &str = "opt-kubby.mount";

/// containerd's socket in the node.
pub const CONTAINERD_SOCKET: &str = "unix:///run/containerd/containerd.sock";

/// BuildKit's socket in the node.
pub const BUILDKIT_SOCKET: &str = "/run/buildkit/buildkitd.sock";

const CNI_CONFIG: &str = "/etc/cni/net.d/10-kubby.conflist";
const CONTAINERD_CONFIG: &str = "/etc/containerd/config.toml";
const MASQUERADE: &str = "/etc/cni/masquerade.nft";
const CRICTL_CONFIG: &str = "/etc/crictl.yaml";
const BUILDKIT_CONFIG: &str = "/etc/buildkit/buildkitd.toml";
const IMPORT_SCRIPT: &str = "/usr/local/lib/kubby/import-images";
const SEED_SCRIPT: &str = "/usr/local/lib/kubby/seed-images";

/// Where containerd keeps images.
const CONTAINERD_ROOT: &str = "/var/lib/containerd";

/// The names of the images that a new node has from the volume, until [`end_of_seed`].
pub const SEEDED_IMAGES: &str = "/run/kubby-seeded-images";

pub fn wanted(inputs: &Inputs<'_>) -> Wanted {
    Wanted {
        files: vec![
            public(CNI_CONFIG, cni_config(inputs.node.pods)),
            public(MASQUERADE, masquerade(inputs.node.pods)),
            public(CONTAINERD_CONFIG, containerd_config(inputs.pause_image)),
            public(CRICTL_CONFIG, crictl_config()),
            public(BUILDKIT_CONFIG, buildkit_config()),
            super::NodeFile {
                mode: 0o755,
                ..public(IMPORT_SCRIPT, import_script())
            },
            super::NodeFile {
                mode: 0o755,
                ..public(SEED_SCRIPT, seed_script())
            },
        ],
        units: vec![
            mount(),
            containerd(),
            import_images(inputs.pause_image),
            buildkit(),
        ],
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
        early: true,
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
    .line("ExecStartPre", format!("-{SEED_SCRIPT}"))
    .line("ExecStartPre", FORGET_NETWORKS)
    .line("ExecStartPre", format!("/usr/sbin/nft -f {MASQUERADE}"))
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
        MASQUERADE,
        egress::CONTAINERD_ENVIRONMENT,
        egress::AUTHORITIES,
    ])
    // What is seeded is in the volume.
    .requires(&[MOUNT])
    // No pod without the firewall.
    .after(&["nftables.service", "kubby-modules.service"])
}

/// Builds images; `kubby image build` starts it.
fn buildkit() -> Unit {
    Unit::service(
        "buildkit",
        "BuildKit image builder",
        &[binary("buildkitd"), format!("--config={BUILDKIT_CONFIG}")],
    )
    // It pulls base images as containerd pulls images.
    .line(
        "EnvironmentFile",
        format!("-{}", egress::CONTAINERD_ENVIRONMENT),
    )
    // Its socket is root's; so is the folder.
    .line("RuntimeDirectory", "buildkit")
    .line("RuntimeDirectoryMode", "0700")
    .line("Delegate", "yes")
    .requires(&[MOUNT, "containerd.service"])
    .reads([
        BUILDKIT_CONFIG,
        egress::CONTAINERD_ENVIRONMENT,
        egress::AUTHORITIES,
    ])
    .on_demand()
}

/// The sandbox image of the component volume, which every pod needs; a unit, so that nothing but
/// pods waits for it.
fn import_images(pause_image: &str) -> Unit {
    Unit {
        name: "kubby-images.service".to_owned(),
        description: "Import the sandbox image of the component volume".to_owned(),
        section: "Service",
        lines: vec![
            ("Type", "oneshot".into()),
            ("RemainAfterExit", "yes".into()),
            ("ExecStart", format!("{IMPORT_SCRIPT} {pause_image} pause")),
        ],
        ..Unit::default()
    }
    .requires(&[MOUNT, "containerd.service"])
    .reads([IMPORT_SCRIPT])
}

/// The status of the command of [`import_command`] when the volume lacks an archive.
pub const NO_ARCHIVE: i32 = 3;

/// The command that imports images of the component volume, given as `(image, archive)`.
pub fn import_command(images: &[(&str, &str)]) -> String {
    let mut command = IMPORT_SCRIPT.to_owned();
    for word in images.iter().flat_map(|(image, archive)| [image, archive]) {
        command.push(' ');
        command.push_str(&crate::remote::quote(word));
    }
    command
}

/// Imports what containerd lacks: a person or the kubelet may have removed an image since.
fn import_script() -> String {
    format!(
        r#"#!/bin/sh
# Usage: import-images IMAGE ARCHIVE [IMAGE ARCHIVE]...
# Imports images of the component volume into containerd, those that it lacks, side by side.
set -eu
import() {{
    ctr --namespace k8s.io images import --local "$1" >/dev/null 2>&1 ||
        ctr --namespace k8s.io images import "$1" >/dev/null
}}
running=
# Nobody can have removed what a new node began with; asking containerd costs seconds of an
# emulated processor.
have=$(cat {SEEDED_IMAGES} 2>/dev/null) ||
    have=$(ctr --namespace k8s.io images list --quiet)
while [ $# -ge 2 ]; do
    image=$1
    archive={COMPONENTS_DIR}/images/$2.tar
    shift 2
    if printf '%s\n' "$have" | grep -qxF -e "$image"; then
        continue
    fi
    if [ ! -e "$archive" ]; then
        echo "the component volume has no $archive for the image $image" >&2
        exit {NO_ARCHIVE}
    fi
    import "$archive" &
    running="$running $!"
done
for job in $running; do
    wait "$job"
done
"#
    )
}

/// Gives a containerd that has never run the store that the component volume has, so that nothing
/// need be imported: its databases are copied, the images' files are links into the volume. A store
/// that is there is left alone; what goes wrong costs no more than the import.
fn seed_script() -> String {
    format!(
        r#"#!/bin/sh
# Usage: seed-images
# Takes the images of the component volume over into a containerd that has never run.
set -eu
from={COMPONENTS_DIR}/containerd
root={CONTAINERD_ROOT}
new=$root.new
[ -e $from/images ] || exit 0
if [ -d $root ]; then
    rmdir $root 2>/dev/null || exit 0
fi
content=io.containerd.content.v1.content
snapshots=io.containerd.snapshotter.v1.overlayfs
rm -rf $new
umask 077
mkdir -p -m 711 $new
mkdir -p $new/io.containerd.metadata.v1.bolt $new/$content/blobs/sha256 $new/$content/ingest     $new/$snapshots/snapshots
cp $from/io.containerd.metadata.v1.bolt/meta.db $new/io.containerd.metadata.v1.bolt/
cp $from/$snapshots/metadata.db $new/$snapshots/
ln -s $from/$content/blobs/sha256/* $new/$content/blobs/sha256/
for snapshot in $from/$snapshots/snapshots/*; do
    to=$new/$snapshots/snapshots/${{snapshot##*/}}
    mkdir $to
    ln -s $snapshot/fs $to/fs
    mkdir -m 711 $to/work
done
sync -f $new
mv -T $new $root
cp $from/images {SEEDED_IMAGES}
"#
    )
}

/// Ends the time in which a new node has just the images that it began with; part of a script.
pub fn end_of_seed() -> String {
    format!("rm -f {SEEDED_IMAGES}")
}

/// Forgets, once for each boot, what pods' networks were like: none of them outlives the machine, and
/// a power loss leaves files without content, over which containerd never gets rid of a pod and the
/// kubelet never makes it anew.
const FORGET_NETWORKS: &str =
    "-/bin/sh -c 'mkdir /run/kubby-networks 2>/dev/null && rm -rf /var/lib/cni/results'";

/// CNI configuration (cniVersion at most 1.0.0 for Debian's containerd 1.7).
fn cni_config(pods: Cidr) -> String {
    let config = json!({
        "cniVersion": "1.0.0",
        "name": "kubby",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                // The node's own table does it, see `masquerade`.
                "ipMasq": false,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": pods.to_string()}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    format!("{config:#}\n")
}

/// Pods go out under the node's address, by one rule for all of them: the bridge plugin would have
/// a chain for each pod and run iptables half a dozen times for it, which an emulated node takes a
/// third of a second for. As there, not between pods and not to multicast groups.
fn masquerade(pods: Cidr) -> String {
    format!(
        r#"#!/usr/sbin/nft -f
# Written by kubby; `kubby start` puts it back as it was.
table ip kubby-pods
delete table ip kubby-pods
table ip kubby-pods {{
	chain postrouting {{
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr {pods} ip daddr != {{ {pods}, 224.0.0.0/4 }} masquerade
	}}
}}
"#
    )
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

/// For people in the node: without it crictl tries other runtimes' sockets first.
fn crictl_config() -> String {
    format!(
        "runtime-endpoint: {CONTAINERD_SOCKET}\nimage-endpoint: {CONTAINERD_SOCKET}\ntimeout: 60\n"
    )
}

/// Results go straight into the images that pods run from. The cache of builds shares the disk
/// with them, so it has bounds.
fn buildkit_config() -> String {
    format!(
        r#"# Written by kubby; `kubby start` puts it back as it was.
root = "/var/lib/buildkit"

[grpc]
  address = ["unix://{BUILDKIT_SOCKET}"]

[worker.oci]
  enabled = false

[worker.containerd]
  enabled = true
  address = "/run/containerd/containerd.sock"
  namespace = "k8s.io"
  snapshotter = "overlayfs"
  networkMode = "host"
  gc = true
  reservedSpace = "512MB"
  maxUsedSpace = "4GB"
  minFreeSpace = "2GB"
"#
    )
}
