//! Ports of the host that lead into a running machine, through QEMU's monitor.

use virt::sys::VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP;

use super::connection::Libvirt;
use crate::error::Result;
use crate::fault;
use crate::hypervisor::forward::{self, PortForward};
use crate::hypervisor::{Change, Forwarding};

impl Libvirt {
    /// Gives QEMU's human monitor a command; there is no other way to these settings. libvirt marks
    /// the machine as tainted by custom commands, which kubby's machines are anyway.
    fn human_monitor(&self, domain: &str, command: String) -> Result<String> {
        self.monitor(domain, command, VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP)
    }
}

impl Forwarding for Libvirt {
    fn forwards(&self, domain: &str) -> Result<Vec<PortForward>> {
        let answer = self.human_monitor(domain, forward::LIST_COMMAND.to_owned())?;
        Ok(forward::parse_list(&answer))
    }

    fn add_forward(&self, domain: &str, forward: PortForward) -> Result<()> {
        fault::step("add a forward", || {
            let answer = self.human_monitor(domain, forward.add_command())?;
            forward::check_added(forward, &answer)
        })
    }

    fn remove_forward(&self, domain: &str, forward: PortForward) -> Result<Change> {
        fault::step("remove a forward", || {
            let answer = self.human_monitor(domain, forward.remove_command())?;
            Ok(match forward::check_removed(&answer)? {
                true => Change::Done,
                false => Change::Nothing,
            })
        })
    }
}
