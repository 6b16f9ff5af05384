//! The component volume, containerd and the pod network.

use serde_json::json;

use super::egress;
use super::links;
use super::unit::Unit;
use super::wanted::{COMPONENTS_DIR, Inputs, Wanted, binary, public, script};
use crate::network::Cidr;

/// The component volume's disk in the node.
pub(super) const DEVICE: &str = "/dev/disk/by-id/virtio-components";

/// Its file system.
pub(super) const FILE_SYSTEM: &str = "erofs";

/// The options of its mount.
pub(super) const MOUNT_OPTIONS: &str = "ro,nodev";

/// systemd's name for the mount of [`COMPONENTS_DIR`].
pub(super) const MOUNT: &str = "opt-kubby.mount";

/// containerd's socket in the node.
pub(crate) const CONTAINERD_SOCKET: &str = "unix:///run/containerd/containerd.sock";

/// BuildKit's socket in the node.
pub(crate) const BUILDKIT_SOCKET: &str = "/run/buildkit/buildkitd.sock";

/// The program that makes containers, of the node image. containerd calls the handler of pods that name no
/// other `runc`, whichever program this is.
pub(super) const OCI_RUNTIME: &str = "/usr/bin/crun";

/// kubby's network of pods, which [`CNI_SCRIPT`] puts where containerd reads it.
const CNI_CONFIG: &str = "/etc/kubby/cni.conflist";
const CNI_SCRIPT: &str = "/usr/local/lib/kubby/install-cni";
const CONTAINERD_CONFIG: &str = "/etc/containerd/config.toml";
const CRICTL_CONFIG: &str = "/etc/crictl.yaml";
const BUILDKIT_CONFIG: &str = "/etc/buildkit/buildkitd.toml";
const IMPORT_SCRIPT: &str = "/usr/local/lib/kubby/import-images";
const SEED_SCRIPT: &str = "/usr/local/lib/kubby/seed-images";

/// The names of the images that a new node has from the volume, until [`end_of_seed`].
pub(crate) const SEEDED_IMAGES: &str = "/run/kubby-seeded-images";

pub(super) fn wanted(inputs: &Inputs<'_>) -> Wanted {
    let mut all = programs(inputs);
    if inputs.cni.is_own() {
        let mtu = (!inputs.links.peers.is_empty()).then_some(links::MTU);
        all.files.extend([
            public(CNI_CONFIG, cni_config(inputs.node.pods, mtu)),
            script(CNI_SCRIPT, include_str!("files/install-cni")),
        ]);
        all.units.push(install_cni());
    }
    all
}

fn programs(inputs: &Inputs<'_>) -> Wanted {
    Wanted {
        files: vec![
            public(
                CONTAINERD_CONFIG,
                include_str!("files/containerd.toml")
                    .replace("@PAUSE_IMAGE@", inputs.pause_image)
                    .replace("@OCI_RUNTIME@", OCI_RUNTIME),
            ),
            // For people in the node: without it crictl tries other runtimes' sockets first.
            public(CRICTL_CONFIG, include_str!("files/crictl.yaml")),
            // Results go straight into the images that pods run from. The cache of builds shares the
            // disk with them, so it has bounds.
            public(
                BUILDKIT_CONFIG,
                include_str!("files/buildkitd.toml").replace("@OCI_RUNTIME@", OCI_RUNTIME),
            ),
            // Imports only what containerd lacks: a person or the kubelet may have removed an image.
            script(IMPORT_SCRIPT, include_str!("files/import-images")),
            // Gives a containerd that has never run the store that the component volume has, so that
            // nothing need be imported: its databases are copied, the images' files are links into
            // the volume. A store that is there is left alone; a failure costs no more than the
            // import.
            script(SEED_SCRIPT, include_str!("files/seed-images")),
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

/// Returns the unit of containerd. It finds the program that stays with each pod beside its own.
fn containerd() -> Unit {
    Unit::service(
        "containerd",
        "containerd container runtime",
        &[binary("containerd")],
    )
    .line("Type", "notify")
    .line("ExecStartPre", "-/sbin/modprobe overlay")
    .line("ExecStartPre", format!("-{SEED_SCRIPT}"))
    .line("ExecStartPre", FORGET_NETWORKS)
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
    .requires(&[MOUNT])
    // No pod without the firewall.
    .after(&["nftables.service", "kubby-modules.service"])
}

/// Returns the unit that installs kubby's network of pods. Each `start` runs it again, since it does not remain.
fn install_cni() -> Unit {
    Unit {
        name: "kubby-cni.service".to_owned(),
        description: "Install the network of pods".to_owned(),
        section: "Service",
        lines: vec![("Type", "oneshot".into()), ("ExecStart", CNI_SCRIPT.into())],
        early: true,
        ..Unit::default()
    }
    // A worker that belongs to no cluster yet has none.
    .only_with(CNI_CONFIG)
    .reads([CNI_CONFIG, CNI_SCRIPT])
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

/// Returns the unit that imports the sandbox image of the component volume, which every pod needs.
/// Nothing but pods waits for it.
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
pub(crate) const NO_ARCHIVE: i32 = 3;

/// Returns the command that imports images of the component volume, given as `(image, archive)`.
pub(crate) fn import_command(images: &[(&str, &str)]) -> String {
    let mut command = IMPORT_SCRIPT.to_owned();
    for word in images.iter().flat_map(|(image, archive)| [image, archive]) {
        command.push(' ');
        command.push_str(&crate::remote::quote(word));
    }
    command
}

/// Ends the time in which a new node has just the images that it began with; part of a script.
pub(super) fn end_of_seed() -> String {
    format!("rm -f {SEEDED_IMAGES}")
}

/// Forgets, once for each boot, what pods' networks were like: none of them outlives the machine,
/// and a power loss leaves files without content, over which containerd never removes a pod and the
/// kubelet never creates it again.
const FORGET_NETWORKS: &str =
    "-/bin/sh -c 'mkdir /run/kubby-networks 2>/dev/null && rm -rf /var/lib/cni/results'";

/// Returns the CNI configuration. `mtu` is the largest packet that reaches other nodes, if there are any.
fn cni_config(pods: Cidr, mtu: Option<u16>) -> String {
    let mut config = json!({
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
    if let Some(mtu) = mtu {
        config["plugins"][0]["mtu"] = json!(mtu);
    }
    format!("{config:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_the_same_paths_as_the_code() {
        let import = include_str!("files/import-images");
        assert!(import.contains(&format!("archive={COMPONENTS_DIR}/images/$2.tar")));
        assert!(import.contains(&format!("exit {NO_ARCHIVE}\n")));
        assert!(include_str!("files/install-cni").contains(&format!("from={CNI_CONFIG}\n")));
        let seed = include_str!("files/seed-images");
        assert!(seed.contains(&format!("from={COMPONENTS_DIR}/containerd\n")));
        for script in [import, seed] {
            assert!(script.contains(SEEDED_IMAGES), "{script}");
        }
        assert!(import.contains(&format!("ctr={}\n", binary("ctr"))));
        let containerd = include_str!("files/containerd.toml");
        assert!(containerd.contains(&format!("\"{COMPONENTS_DIR}/cni\"")));
        let buildkit = include_str!("files/buildkitd.toml");
        assert!(buildkit.contains(&format!("\"unix://{BUILDKIT_SOCKET}\"")));
        let crictl = include_str!("files/crictl.yaml");
        assert!(crictl.contains(&format!("runtime-endpoint: {CONTAINERD_SOCKET}\n")));
    }
}
