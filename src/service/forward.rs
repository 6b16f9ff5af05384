//! Forwards from this host's loopback to Services: chosen once, recorded in the profile, opened again
//! whenever the machine lacks them.

use super::model::{Service, ServicePort, ServiceType};
use crate::error::{Error, Kind, Result};
use crate::hypervisor::{Forwarding, PortForward, Protocol, ports};
use crate::profile::{Profile, ServiceForward};

/// The forwards of one cluster.
pub(crate) struct Forwards<'a> {
    /// The profile that records them.
    pub profile: &'a mut Profile,
    /// The cluster's machine.
    pub machine: &'a dyn Forwarding,
    /// Its name in libvirt.
    pub domain: &'a str,
    /// Ports that other clusters have recorded.
    pub taken: Vec<u16>,
    /// The forwards that the machine has, read once and kept up to date.
    current: Vec<PortForward>,
}

/// The changes of [`Forwards::reconcile`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reconciled {
    /// Forwards that were opened again, or lead to another port of the node now.
    pub opened: Vec<ServiceForward>,
    /// Forwards whose Service is gone.
    pub dropped: Vec<ServiceForward>,
    /// Forwards that had to move to another port of the host, with their old one.
    pub moved: Vec<(ServiceForward, u16)>,
}

impl<'a> Forwards<'a> {
    /// Reads the forwards that the machine has.
    ///
    /// # Errors
    /// [`Kind::Hypervisor`] when it does not run.
    pub(crate) fn new(
        profile: &'a mut Profile,
        machine: &'a dyn Forwarding,
        domain: &'a str,
        taken: Vec<u16>,
    ) -> Result<Self> {
        Ok(Forwards {
            current: machine.forwards(domain)?,
            profile,
            machine,
            domain,
            taken,
        })
    }

    /// Gives the machine the recorded forwards, and adapts the record to the cluster: Services may be
    /// gone, or have another port of the node.
    ///
    /// # Errors
    /// [`Kind::Hypervisor`] when QEMU refuses, [`Kind::Preflight`] when no port is left.
    pub(crate) fn reconcile(&mut self, services: &[Service]) -> Result<Reconciled> {
        let mut done = Reconciled::default();
        for recorded in self.profile.forwards.clone() {
            let mut same = services.iter().filter(|s| is_of(&recorded, s));
            let now = same.find_map(|s| Some((s, node_port(s, &recorded)?)));
            let Some((service, node)) = now else {
                self.close(&recorded)?;
                done.dropped.push(recorded);
                continue;
            };
            if node == recorded.node && self.current.contains(&recorded.rule()) {
                continue;
            }
            let opened = self.open(service, recorded.port, recorded.protocol, node, None)?;
            if opened.host == recorded.host {
                done.opened.push(opened);
            } else {
                done.moved.push((opened, recorded.host));
            }
        }
        Ok(done)
    }

    /// Makes sure that a port of a Service can be reached; the same one gets the same port of the
    /// host again. The port must have passed [`super::pick_ports`].
    ///
    /// # Errors
    /// [`Kind::Preflight`] when `asked` is taken, or no port is left.
    pub(crate) fn ensure(
        &mut self,
        service: &Service,
        port: &ServicePort,
        asked: Option<u16>,
    ) -> Result<ServiceForward> {
        let (Some(protocol), Some(node)) = (port.protocol, port.node_port) else {
            let message = format!("the port {} cannot be forwarded", port.label());
            return Err(Error::internal(message));
        };
        self.open(service, port.port, protocol, node, asked)
    }

    fn open(
        &mut self,
        service: &Service,
        port: u16,
        protocol: Protocol,
        node: u16,
        asked: Option<u16>,
    ) -> Result<ServiceForward> {
        let same =
            |f: &&ServiceForward| is_of(f, service) && f.port == port && f.protocol == protocol;
        let recorded = self.profile.forwards.iter().find(same).cloned();
        if let Some(recorded) = &recorded {
            let as_asked = asked.is_none_or(|port| port == recorded.host);
            if as_asked && recorded.node == node && self.current.contains(&recorded.rule()) {
                return Ok(recorded.clone());
            }
        }
        let own = recorded.as_ref().map(|recorded| recorded.host);
        if let Some(host) = asked.filter(|host| own != Some(*host))
            && !self.is_free(host, protocol)
        {
            return Err(taken(host, protocol));
        }
        let candidates = match asked {
            Some(host) => vec![host],
            None => candidates(service.kind, port, node, own),
        };
        // The old forward is closed first: it may hold the very port.
        if let Some(recorded) = &recorded {
            self.close(recorded)?;
        }
        let make = |host| ServiceForward {
            namespace: service.namespace.clone(),
            service: service.name.clone(),
            port,
            protocol,
            host,
            node,
        };
        for host in candidates {
            if !self.is_free(host, protocol) {
                continue;
            }
            match self.add(make(host)) {
                // Another program was faster, or QEMU's user may not have this port.
                Err(e) if e.kind() == Kind::Preflight && asked.is_none() => {}
                result => return result,
            }
        }
        if let Some(host) = asked {
            return Err(taken(host, protocol));
        }
        let avoid = self.taken.iter().copied().chain(self.profile.host_ports());
        let free = ports::find_free(1, &avoid.collect())?;
        let none = || Error::preflight("there is no free port");
        let host = *free.first().ok_or_else(none)?;
        self.add(make(host))
    }

    /// Opens a forward in the machine and records it.
    fn add(&mut self, forward: ServiceForward) -> Result<ServiceForward> {
        self.machine.add_forward(self.domain, forward.rule())?;
        self.current.push(forward.rule());
        self.profile.forwards.push(forward.clone());
        Ok(forward)
    }

    /// Returns whether neither a cluster nor another program has a port of the host.
    fn is_free(&self, host: u16, protocol: Protocol) -> bool {
        let recorded = self.taken.contains(&host) || self.profile.host_ports().contains(&host);
        !recorded && ports::can_be_had(protocol, host)
    }

    /// Removes a forward from the machine and from the record.
    ///
    /// # Errors
    /// [`Kind::Hypervisor`] when QEMU refuses.
    pub(crate) fn close(&mut self, forward: &ServiceForward) -> Result<()> {
        let rule = forward.rule();
        // Only if QEMU has it for this Service: after a restart another one may have the port.
        if self.current.contains(&rule) {
            self.machine.remove_forward(self.domain, rule)?;
            self.current.retain(|l| *l != rule);
        }
        self.profile.forwards.retain(|f| f != forward);
        Ok(())
    }
}

fn is_of(forward: &ServiceForward, service: &Service) -> bool {
    forward.namespace == service.namespace && forward.service == service.name
}

/// Returns the port of the node that a recorded forward should lead to now.
fn node_port(service: &Service, recorded: &ServiceForward) -> Option<u16> {
    let same = |p: &&ServicePort| p.port == recorded.port && p.protocol == Some(recorded.protocol);
    let port = service.ports.iter().find(same)?;
    port.node_port.filter(|_| service.is_reachable())
}

/// Returns the ports of the host to try, best first: the one that it had, the Service's own where the
/// Service has an address of its own, and the node's.
fn candidates(kind: ServiceType, port: u16, node: u16, had: Option<u16>) -> Vec<u16> {
    let own = (kind == ServiceType::LoadBalancer && port >= 1024).then_some(port);
    let mut all: Vec<u16> = Vec::new();
    for port in had.into_iter().chain(own).chain([node]) {
        if !all.contains(&port) {
            all.push(port);
        }
    }
    all
}

fn taken(host: u16, protocol: Protocol) -> Error {
    let message = format!("--host-port: the {protocol} port {host} of 127.0.0.1 is taken");
    Error::preflight(message)
        .with_hint("choose another one, or leave --host-port out for a free one")
        .with_hint("kubby list and kubby service list show the clusters' ports")
}

#[cfg(test)]
mod tests;
