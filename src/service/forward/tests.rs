use std::cell::RefCell;
use std::net::{Ipv4Addr, TcpListener};

use super::*;
use crate::hypervisor::Change;
use crate::profile::Ports;

/// A machine whose QEMU refuses some ports.
#[derive(Default)]
struct Machine {
    live: RefCell<Vec<PortForward>>,
    refused: Vec<u16>,
    calls: RefCell<Vec<String>>,
}

impl Forwarding for Machine {
    fn forwards(&self, _: &str) -> Result<Vec<PortForward>> {
        Ok(self.live.borrow().clone())
    }

    fn add_forward(&self, domain: &str, forward: PortForward) -> Result<()> {
        let PortForward { host, guest, .. } = forward;
        self.calls
            .borrow_mut()
            .push(format!("{domain}: {host} to {guest}"));
        if self.refused.contains(&host) {
            return Err(Error::preflight("in use"));
        }
        self.live.borrow_mut().push(forward);
        Ok(())
    }

    fn remove_forward(&self, domain: &str, forward: PortForward) -> Result<Change> {
        self.calls
            .borrow_mut()
            .push(format!("{domain}: no {}", forward.host));
        self.live.borrow_mut().retain(|f| *f != forward);
        Ok(Change::Done)
    }
}

fn profile() -> Profile {
    let mut profile = Profile {
        forwards: vec![],
        ..crate::profile::example()
    };
    profile.first_mut().ports = Ports {
        ssh: 1,
        api: Some(2),
        link: None,
    };
    profile
}

/// Returns `count` free ports of this host.
fn free(count: usize) -> Vec<u16> {
    ports::find_free(count, &Default::default()).unwrap()
}

fn service(kind: ServiceType, port: u16, node: u16) -> Service {
    Service {
        namespace: "default".into(),
        name: "web".into(),
        kind,
        selector: vec![],
        ports: vec![ServicePort {
            name: None,
            port,
            protocol: Some(Protocol::Tcp),
            node_port: Some(node),
            https: false,
        }],
        ingress: vec![],
    }
}

fn ensure(
    profile: &mut Profile,
    machine: &Machine,
    service: &Service,
    asked: Option<u16>,
) -> Result<u16> {
    let mut forwards = Forwards::new(profile, machine, "kubby-dev", vec![])?;
    Ok(forwards.ensure(service, &service.ports[0], asked)?.host)
}

#[test]
fn the_same_service_has_the_same_port() {
    let (mut profile, machine, node) = (profile(), Machine::default(), free(1)[0]);
    let web = service(ServiceType::NodePort, 80, node);
    assert_eq!(ensure(&mut profile, &machine, &web, None).unwrap(), node);
    assert_eq!(ensure(&mut profile, &machine, &web, None).unwrap(), node);
    assert_eq!(machine.calls.borrow().len(), 1, "{:?}", machine.calls);
    assert_eq!(profile.forwards.len(), 1);
}

#[test]
fn a_load_balancer_prefers_the_services_own_port() {
    assert_eq!(
        candidates(ServiceType::LoadBalancer, 8080, 30080, None),
        [8080, 30080]
    );
    assert_eq!(
        candidates(ServiceType::LoadBalancer, 80, 30080, None),
        [30080]
    );
    assert_eq!(
        candidates(ServiceType::NodePort, 8080, 30080, Some(4000)),
        [4000, 30080]
    );
    assert_eq!(
        candidates(ServiceType::LoadBalancer, 8080, 30080, Some(8080)),
        [8080, 30080]
    );
}

#[test]
fn a_port_in_use_is_passed_over() {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let used = socket.local_addr().unwrap().port();
    let (mut profile, machine) = (profile(), Machine::default());
    let web = service(ServiceType::NodePort, 80, used);
    let host = ensure(&mut profile, &machine, &web, None).unwrap();
    assert_ne!(host, used);
    assert_eq!(profile.forwards[0].node, used);
}

#[test]
fn a_port_that_qemu_cannot_have_is_passed_over() {
    let node = free(1)[0];
    let machine = Machine {
        refused: vec![node],
        ..Machine::default()
    };
    let web = service(ServiceType::NodePort, 80, node);
    assert_ne!(ensure(&mut profile(), &machine, &web, None).unwrap(), node);
}

#[test]
fn ports_of_other_clusters_are_left_alone() {
    let (mut profile, machine, node) = (profile(), Machine::default(), free(1)[0]);
    let web = service(ServiceType::NodePort, 80, node);
    let mut forwards = Forwards::new(&mut profile, &machine, "d", vec![node]).unwrap();
    assert_ne!(
        forwards.ensure(&web, &web.ports[0], None).unwrap().host,
        node
    );
    let e = forwards
        .ensure(&web, &web.ports[0], Some(node))
        .unwrap_err();
    assert_eq!(e.kind(), Kind::Preflight);
    assert!(e.message().contains("--host-port"), "{e}");
    assert_eq!(forwards.profile.forwards.len(), 1, "the old forward stays");
}

#[test]
fn an_asked_port_replaces_the_old_one() {
    let (mut profile, machine, ports) = (profile(), Machine::default(), free(2));
    let web = service(ServiceType::NodePort, 80, ports[0]);
    ensure(&mut profile, &machine, &web, None).unwrap();
    assert_eq!(
        ensure(&mut profile, &machine, &web, Some(ports[1])).unwrap(),
        ports[1]
    );
    assert_eq!(profile.forwards.len(), 1);
    assert_eq!(
        *machine.live.borrow(),
        [PortForward::tcp(ports[1], ports[0])]
    );
    // Asked without a number it stays where it was put.
    assert_eq!(
        ensure(&mut profile, &machine, &web, None).unwrap(),
        ports[1]
    );
}

#[test]
fn reconciling_follows_the_cluster() {
    let (mut profile, machine, ports) = (profile(), Machine::default(), free(2));
    let web = service(ServiceType::NodePort, 80, ports[0]);
    ensure(&mut profile, &machine, &web, None).unwrap();
    let reconcile = |profile: &mut Profile, services: &[Service]| {
        let mut forwards = Forwards::new(profile, &machine, "d", vec![]).unwrap();
        forwards.reconcile(services).unwrap()
    };
    assert_eq!(
        reconcile(&mut profile, std::slice::from_ref(&web)),
        Reconciled::default()
    );

    // A new QEMU has none of them.
    machine.live.borrow_mut().clear();
    let done = reconcile(&mut profile, std::slice::from_ref(&web));
    assert_eq!(done.opened.len(), 1);
    assert_eq!(
        *machine.live.borrow(),
        [PortForward::tcp(ports[0], ports[0])]
    );

    // Recreated with another port of the node: the address on the host stays.
    let again = service(ServiceType::NodePort, 80, ports[1]);
    let done = reconcile(&mut profile, &[again]);
    assert_eq!((done.opened.len(), done.moved.len()), (1, 0));
    assert_eq!(
        *machine.live.borrow(),
        [PortForward::tcp(ports[0], ports[1])]
    );

    // Not a Service with a port of the node any more.
    let inner = service(ServiceType::ClusterIP, 80, ports[1]);
    let done = reconcile(&mut profile, &[inner]);
    assert_eq!(done.dropped.len(), 1);
    assert!(machine.live.borrow().is_empty() && profile.forwards.is_empty());
}

#[test]
fn a_way_whose_port_was_taken_while_the_machine_was_off_moves() {
    let (mut profile, machine) = (profile(), Machine::default());
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let used = socket.local_addr().unwrap().port();
    let node = free(1)[0];
    profile.forwards.push(ServiceForward {
        namespace: "default".into(),
        service: "web".into(),
        port: 80,
        protocol: Protocol::Tcp,
        host: used,
        node,
    });
    let web = service(ServiceType::NodePort, 80, node);
    let mut forwards = Forwards::new(&mut profile, &machine, "d", vec![]).unwrap();
    let done = forwards.reconcile(&[web]).unwrap();
    assert_eq!(done.moved.len(), 1);
    assert_eq!((done.moved[0].1, done.moved[0].0.host), (used, node));
    assert!(
        machine
            .live
            .borrow()
            .contains(&PortForward::tcp(node, node))
    );
}
