//! Ports of the host that lead into a running machine, through QEMU's monitor.

use virt::sys;

use super::connection::Libvirt;
use super::{domain, failure};
use crate::error::Result;
use crate::hypervisor::Change;
use crate::hypervisor::forward::{self, PortForward};

/// Gives QEMU's human monitor a command; there is no other way to these settings. libvirt marks
/// the machine as tainted by custom commands, which `kubby` machines are anyway.
fn monitor(libvirt: &Libvirt, name: &str, command: String) -> Result<String> {
    let name = name.to_owned();
    let what = format!("ask QEMU's monitor of the domain {name}");
    libvirt.call(&what.clone(), move |c| {
        domain::require(c, &name)?
            .qemu_monitor_command(&command, sys::VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP)
            .map_err(|e| failure::call(&what, &e))
    })
}

pub(super) fn list(libvirt: &Libvirt, name: &str) -> Result<Vec<PortForward>> {
    let answer = monitor(libvirt, name, forward::LIST_COMMAND.to_owned())?;
    Ok(forward::parse_list(&answer))
}

pub(super) fn add(libvirt: &Libvirt, name: &str, forward: PortForward) -> Result<()> {
    let answer = monitor(libvirt, name, forward.add_command())?;
    forward::check_added(forward, &answer)
}

pub(super) fn remove(libvirt: &Libvirt, name: &str, forward: PortForward) -> Result<Change> {
    let answer = monitor(libvirt, name, forward.remove_command())?;
    Ok(if forward::check_removed(&answer)? {
        Change::Done
    } else {
        Change::Nothing
    })
}
