//! The libvirt domain of a machine, as the profile describes it.

use crate::assets::node_image;
use crate::cluster::machine::Machine;
use crate::cluster::machine::host::BaseVolumes;
use crate::cluster::machine::names;
use crate::error::Result;
use crate::hypervisor::{Acceleration, DomainSpec, Owner};
use crate::profile::{NodeProfile, Profile};
use crate::units::Mebibytes;

/// Returns the domain of a machine.
///
/// # Errors
/// [`crate::error::Kind::Hypervisor`] when a volume is missing.
fn spec(
    machine: &Machine<'_>,
    profile: &Profile,
    node: &NodeProfile,
    acceleration: Acceleration,
) -> Result<DomainSpec> {
    let host = machine.host;
    let base = BaseVolumes::of(&profile.assets);
    let path = |volume: &str| -> Result<String> {
        let path = host.libvirt().volume_path(host.pool(), volume)?;
        Ok(path.to_string_lossy().into_owned())
    };
    let file = |name: &str| host.file(name).to_string_lossy().into_owned();
    let channel = if host.reaches_files() {
        host.libvirt().ensure_channel(&machine.channel())?;
        Some(file(&machine.names.channel))
    } else {
        None
    };
    let image_args = node_image::KERNEL_ARGUMENTS.split_ascii_whitespace();
    let image_args = image_args.map(str::to_owned);
    Ok(DomainSpec {
        name: machine.names.domain.clone(),
        uuid: node.uuid()?,
        title: format!("kubby {}, node {}", profile.name, node.name),
        description: format!(
            "A Kubernetes node of kubby; `kubby delete{}` removes it",
            profile.name.flag()
        ),
        owner: Owner {
            profile: profile.name.to_string(),
            home: host.store().home().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        acceleration,
        memory: Mebibytes(node.machine.memory_mib),
        cpus: node.machine.cpus,
        kernel: path(&base.kernel)?,
        initrd: path(&base.initrd)?,
        kernel_args: image_args.chain(node.machine.kernel_args.clone()).collect(),
        root_disk: path(&node.disk)?,
        components: path(&base.components)?,
        seed: path(&machine.names.seed)?,
        console_log: file(&machine.names.console),
        channel,
        forwards: names::own_forwards(node),
    })
}

/// Defines the domain of a machine that is off, and returns it.
///
/// # Errors
/// [`crate::error::Kind::State`] when another's domain has its name,
/// [`crate::error::Kind::Hypervisor`] when a volume is missing or libvirt refuses.
pub(crate) fn define(
    machine: &Machine<'_>,
    profile: &Profile,
    node: &NodeProfile,
    acceleration: Acceleration,
) -> Result<DomainSpec> {
    machine.find()?;
    let spec = spec(machine, profile, node, acceleration)?;
    machine.host.libvirt().define(&spec)?;
    Ok(spec)
}
