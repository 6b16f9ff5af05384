//! Ways from this host's loopback to Services: chosen once, kept in the profile, put back into
//! the machine whenever it lacks them.

use super::{Service, ServicePort, ServiceType};
use crate::error::{Error, Kind, Result};
use crate::hypervisor::{Forwarding, PortForward, Protocol, ports};
use crate::profile::{Profile, ServiceForward};

/// The ways of one cluster.
pub struct Forwards<'a> {
    /// Where they are kept.
    pub profile: &'a mut Profile,
    /// The cluster's machine.
    pub machine: &'a dyn Forwarding,
    /// Its name in libvirt.
    pub domain: &'a str,
    /// Ports that other clusters have recorded.
    pub taken: Vec<u16>,
    /// What the machine has, asked once and kept up to date.
    live: Vec<PortForward>,
}

/// What [`Forwards::reconcile`] found changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Ways that were put back or led to another port of the node now.
    pub opened: Vec<ServiceForward>,
    /// Ways whose Service is gone.
    pub dropped: Vec<ServiceForward>,
    /// Ways that had to move to another port of the host, with their old one.
    pub moved: Vec<(ServiceForward, u16)>,
}

impl<'a> Forwards<'a> {
    /// Asks the machine what it has.
    ///
    /// # Errors
    /// [`Kind::Hypervisor`] when it does not run.
    pub fn new(
        profile: &'a mut Profile,
        machine: &'a dyn Forwarding,
        domain: &'a str,
        taken: Vec<u16>,
    ) -> Result<Self> {
        Ok(Forwards {
            live: machine.forwards(domain)?,
            profile,
            machine,
            domain,
            taken,
        })
    }

    /// Brings the machine to what the profile has recorded, and the record to what the cluster
    /// has: Services may be gone, or have another port of the node.
    ///
    /// # Errors
    /// [`Kind::Hypervisor`] when QEMU refuses, [`Kind::Preflight`] when no port is left.
    pub fn reconcile(&mut self, services: &[Service]) -> Result<Reconciled> {
        let mut done = Reconciled::default();
        for recorded in self.profile.forwards.clone() {
            let now = services
                .iter()
                .find(|s| s.namespace == recorded.namespace && s.name == recorded.service)
                .and_then(|s| Some((s, node_port(s, &recorded)?)));
            let Some((service, node)) = now else {
                self.close(&recorded)?;
                done.dropped.push(recorded);
                continue;
            };
            if node == recorded.node && self.live.contains(&recorded.rule()) {
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
    pub fn ensure(
        &mut self,
        service: &Service,
        port: &ServicePort,
        asked: Option<u16>,
    ) -> Result<ServiceForward> {
        let (Some(protocol), Some(node)) = (port.protocol, port.node_port) else {
            return Err(Error::new(
                Kind::Internal,
                format!("the port {} cannot be forwarded", port.label()),
            ));
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
        let recorded = self.recorded(service, port, protocol);
        if let Some(recorded) = &recorded {
            let as_asked = asked.is_none_or(|port| port == recorded.host);
            if as_asked && recorded.node == node && self.live.contains(&recorded.rule()) {
                return Ok(recorded.clone());
            }
        }
        let candidates = match asked {
            Some(host) => {
                self.check_asked(host, protocol, recorded.as_ref())?;
                vec![host]
            }
            None => candidates(service.kind, port, node, recorded.as_ref().map(|r| r.host)),
        };
        // The old way goes first: it may hold the very port.
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
            let forward = make(host);
            if self.is_taken(host) || !ports::can_be_had(protocol, host) {
                continue;
            }
            match self.machine.add_forward(self.domain, forward.rule()) {
                Ok(()) => return Ok(self.record(forward)),
                // Another program was faster, or QEMU's user may not have this port.
                Err(e) if e.kind() == Kind::Preflight && asked.is_none() => {}
                Err(e) => return Err(e),
            }
        }
        if let Some(host) = asked {
            return Err(taken(host, protocol));
        }
        let avoid = self.taken.iter().copied().chain(self.profile.host_ports());
        let free = ports::find_free(1, &avoid.collect())?;
        let host = *free
            .first()
            .ok_or_else(|| Error::new(Kind::Preflight, "there is no free port"))?;
        let forward = make(host);
        self.machine.add_forward(self.domain, forward.rule())?;
        Ok(self.record(forward))
    }

    /// A port that somebody else has is refused before the old way is closed.
    fn check_asked(
        &self,
        host: u16,
        protocol: Protocol,
        recorded: Option<&ServiceForward>,
    ) -> Result<()> {
        let own = recorded.is_some_and(|r| r.host == host);
        if own || (!self.is_taken(host) && ports::can_be_had(protocol, host)) {
            return Ok(());
        }
        Err(taken(host, protocol))
    }

    fn is_taken(&self, host: u16) -> bool {
        self.taken.contains(&host) || self.profile.host_ports().contains(&host)
    }

    fn recorded(&self, service: &Service, port: u16, protocol: Protocol) -> Option<ServiceForward> {
        let same = |f: &&ServiceForward| {
            f.namespace == service.namespace
                && f.service == service.name
                && f.port == port
                && f.protocol == protocol
        };
        self.profile.forwards.iter().find(same).cloned()
    }

    fn record(&mut self, forward: ServiceForward) -> ServiceForward {
        self.live.push(forward.rule());
        self.profile.forwards.push(forward.clone());
        forward
    }

    /// Takes a way out of the machine and out of the record.
    ///
    /// # Errors
    /// [`Kind::Hypervisor`] when QEMU refuses.
    pub fn close(&mut self, forward: &ServiceForward) -> Result<()> {
        let rule = forward.rule();
        // Only what QEMU has at this port for this Service: after a restart the port may be
        // another one's.
        if self.live.contains(&rule) {
            self.machine.remove_forward(self.domain, rule)?;
            self.live.retain(|l| *l != rule);
        }
        self.profile.forwards.retain(|f| f != forward);
        Ok(())
    }
}

/// The port of the node that a recorded way should lead to now.
fn node_port(service: &Service, recorded: &ServiceForward) -> Option<u16> {
    let port = service
        .ports
        .iter()
        .find(|p| p.port == recorded.port && p.protocol == Some(recorded.protocol))?;
    port.node_port.filter(|_| service.is_reachable())
}

/// Ports of the host to try, best first: the one that it had, the Service's own where it stands
/// for an address of its own, and the node's.
fn candidates(kind: ServiceType, port: u16, node: u16, had: Option<u16>) -> Vec<u16> {
    let own = (kind == ServiceType::LoadBalancer && port >= 1024).then_some(port);
    let mut all: Vec<u16> = had.into_iter().chain(own).chain([node]).collect();
    let mut seen = Vec::new();
    all.retain(|p| !seen.contains(p) && (seen.push(*p), true).1);
    all
}

fn taken(host: u16, protocol: Protocol) -> Error {
    Error::new(
        Kind::Preflight,
        format!("--host-port: the {protocol} port {host} of 127.0.0.1 is taken"),
    )
    .with_hint("choose another one, or leave --host-port out for a free one")
    .with_hint("kubby list and kubby service list show what the clusters use")
}

#[cfg(test)]
mod tests;
