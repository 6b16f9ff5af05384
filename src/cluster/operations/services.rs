//! `kubby service`: ways from the host to Services, and what `start` puts back of them.

use std::time::Duration;

use crate::api::ApiClient;
use crate::cluster::Access;
use crate::cluster::lock;
use crate::cluster::machine::preflight;
use crate::cluster::machine::resources::Names;
use crate::error::{Error, Kind, Result};
use crate::hypervisor::{Forwarding, Hypervisor, Libvirt, Protocol, State};
use crate::profile::{Profile, ProfileName, ServiceForward};
use crate::progress::Progress;
use crate::service::{self, Forwards, Reconciled, Service, ServicePort};
use crate::store::Store;

/// Time for kube-proxy to learn of a Service.
const PROXY_LIMIT: Duration = Duration::from_secs(15);

/// Which Service the user wants to reach.
#[derive(Debug, Clone)]
pub struct ServiceRequest {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// One of its ports, by name or number; all of them without.
    pub port: Option<String>,
    /// The port on this host's loopback; kubby chooses without.
    pub host_port: Option<u16>,
    /// How long to wait for a ready pod.
    pub wait: Duration,
}

/// A Service with the ways that lead to it, one a port, `None` where there is none.
#[derive(Debug)]
pub struct Reachable {
    /// The Service.
    pub service: Service,
    /// Its ports and the ports of this host.
    pub ports: Vec<(ServicePort, Option<u16>)>,
}

/// A cluster whose machine runs, with the ways into it.
struct Running {
    access: Access,
    api: ApiClient,
    hypervisor: Libvirt,
    domain: String,
}

/// The connection to libvirt of a cluster whose machine runs; `so` is what follows if it does not.
///
/// # Errors
/// [`Kind::State`] when it does not run, [`Kind::Hypervisor`] when that cannot be told.
pub fn require_running(store: &Store, access: &Access, so: &str) -> Result<Libvirt> {
    let hypervisor = Libvirt::open(&access.profile.connect)?;
    let domain = Names::new(store, &access.profile).domain;
    let state = hypervisor.find(&domain)?.map(|d| d.state);
    if state == Some(State::Running) {
        return Ok(hypervisor);
    }
    let name = &access.profile.name;
    Err(Error::new(
        Kind::State,
        format!("the cluster `{name}` does not run, so {so}"),
    )
    .with_hint(format!("kubby start{}", name.flag())))
}

impl Running {
    fn open(store: &Store, name: &ProfileName) -> Result<Self> {
        let access = Access::open(store, name)?;
        let so = "none of its Services can be reached";
        let hypervisor = require_running(store, &access, so)?;
        Ok(Running {
            api: access.api()?,
            domain: Names::new(store, &access.profile).domain,
            access,
            hypervisor,
        })
    }

    fn services(&self) -> Result<Vec<Service>> {
        service::all(&self.api).map_err(|e| {
            e.with_hint(format!(
                "kubby status{} tells what runs",
                self.access.profile.name.flag()
            ))
        })
    }

    /// Changes ways and keeps the result, whatever came of it.
    fn change<T>(
        &mut self,
        store: &Store,
        change: impl FnOnce(&mut Forwards<'_>) -> Result<T>,
    ) -> Result<T> {
        changed(
            store,
            &mut self.access,
            &self.hypervisor,
            &self.domain,
            change,
        )
    }
}

/// Changes the ways of a cluster under the lock that keeps ports apart, and keeps the result,
/// also when the change fails in its middle.
fn changed<T>(
    store: &Store,
    access: &mut Access,
    machine: &dyn Forwarding,
    domain: &str,
    change: impl FnOnce(&mut Forwards<'_>) -> Result<T>,
) -> Result<T> {
    let _shared = store.lock_shared(|| {})?;
    let others = preflight::ports_of_others(store, &access.profile.name)?;
    let taken = others.into_iter().map(|(port, _)| port).collect();
    let before = access.profile.forwards.clone();
    let mut forwards = Forwards::new(&mut access.profile, machine, domain, taken)?;
    let result = change(&mut forwards);
    if access.profile.forwards != before {
        access.profile.save(&access.dir)?;
    }
    result
}

/// Makes a Service reachable from this host.
///
/// # Errors
/// [`Kind::State`] when there is no such Service or it has no port of the node,
/// [`Kind::Unhealthy`] when no pod is ready behind it, [`Kind::Preflight`] for a port that is taken.
pub fn reach(
    store: &Store,
    name: &ProfileName,
    request: &ServiceRequest,
    progress: &dyn Progress,
) -> Result<Reachable> {
    let running = Running::open(store, name)?;
    let all = running.services()?;
    let service = service::find(&all, &request.namespace, &request.name, &name.flag());
    let service = match service {
        Ok(service) => service,
        Err(e) => {
            // What led to a Service that is gone must not hold its port for ever.
            let _lock = lock(store, name, progress)?;
            let mut running = Running::open(store, name)?;
            running.change(store, |forwards| forwards.reconcile(&all))?;
            return Err(e);
        }
    };
    let ports = service::pick_ports(service, request.port.as_deref())?;
    if request.host_port.is_some() && ports.len() > 1 {
        let labels: Vec<String> = ports.iter().map(ServicePort::label).collect();
        return Err(Error::new(
            Kind::Usage,
            format!(
                "--host-port: the Service `{}` has several ports",
                service.label()
            ),
        )
        .with_hint(format!("choose one with --port: {}", labels.join(", "))));
    }
    service::wait(&running.api, service, request.wait, progress)?;
    // The wait is over: only now other commands are kept out, and the profile read once more.
    let _lock = lock(store, name, progress)?;
    let mut running = Running::open(store, name)?;
    let known = running.access.profile.forwards.clone();
    let ways = running.change(store, |forwards| {
        let done = forwards.reconcile(&all)?;
        report(&done, progress);
        ports
            .into_iter()
            .map(|port| {
                let way = forwards.ensure(service, &port, request.host_port)?;
                Ok((port, way))
            })
            .collect::<Result<Vec<_>>>()
    })?;
    for (_, way) in ways.iter().filter(|(_, way)| !known.contains(way)) {
        if way.protocol == Protocol::Tcp && !service::wait_open(way.host, PROXY_LIMIT)? {
            progress.warn(&format!(
                "connections to 127.0.0.1:{} are refused in the cluster: does a container listen on the targetPort of {}?",
                way.host,
                service.label()
            ));
        }
    }
    service::publish(&running.api, service)?;
    Ok(Reachable {
        service: service.clone(),
        ports: ways
            .into_iter()
            .map(|(port, way)| (port, Some(way.host)))
            .collect(),
    })
}

/// All Services, those of one namespace if asked, with the ways that lead to them now.
///
/// # Errors
/// [`Kind::State`] when the cluster does not run, [`Kind::Unhealthy`] when its API does not answer.
pub fn services(
    store: &Store,
    name: &ProfileName,
    namespace: Option<&str>,
) -> Result<Vec<Reachable>> {
    let running = Running::open(store, name)?;
    let live = running.hypervisor.forwards(&running.domain)?;
    let forwards = &running.access.profile.forwards;
    let way = |service: &Service, port: &ServicePort| {
        let leads = |f: &&ServiceForward| {
            leads_to(f, service, port) && Some(f.node) == port.node_port && live.contains(&f.rule())
        };
        forwards.iter().find(leads).map(|f| f.host)
    };
    let all = running.services()?.into_iter();
    Ok(all
        .filter(|s| namespace.is_none_or(|n| n == s.namespace))
        .map(|service| {
            let ports = service.ports.iter();
            let ports = ports.map(|p| (p.clone(), way(&service, p))).collect();
            Reachable { service, ports }
        })
        .collect())
}

/// Takes the ways to a Service away, all of them or one port's. Returns the ports of this host
/// that are closed now.
///
/// # Errors
/// [`Kind::State`] when there is none.
pub fn unreach(
    store: &Store,
    name: &ProfileName,
    namespace: &str,
    service: &str,
    port: Option<&str>,
    progress: &dyn Progress,
) -> Result<Vec<u16>> {
    let _lock = lock(store, name, progress)?;
    let mut running = Running::open(store, name)?;
    let all = running.services()?;
    let found = all
        .iter()
        .find(|s| s.namespace == namespace && s.name == service);
    let picked = match (found, port) {
        (Some(found), Some(port)) => Some(service::pick_ports(found, Some(port))?),
        _ => None,
    };
    let closed = running.change(store, |forwards| {
        let ours = |f: &ServiceForward| {
            f.namespace == namespace
                && f.service == service
                && match (&picked, port) {
                    (Some(picked), _) => picked.iter().any(|p| p.port == f.port),
                    // The Service is gone: its record is all there is to compare with.
                    (None, Some(port)) => port.parse() == Ok(f.port),
                    (None, None) => true,
                }
        };
        let all: Vec<_> = forwards.profile.forwards.clone();
        let mut closed = Vec::new();
        for way in all.into_iter().filter(ours) {
            forwards.close(&way)?;
            closed.push(way.host);
        }
        Ok(closed)
    })?;
    if closed.is_empty() {
        return Err(Error::new(
            Kind::State,
            format!("no port of this host leads to the Service `{namespace}/{service}`"),
        )
        .with_hint(format!("kubby service{} list shows what does", name.flag())));
    }
    let rest = running.access.profile.forwards.iter();
    let unused = !rest
        .into_iter()
        .any(|f| f.namespace == namespace && f.service == service);
    if let (Some(found), true) = (found, unused) {
        service::withdraw(&running.api, found)?;
    }
    Ok(closed)
}

/// Puts back what a machine that was started anew has lost. Costs nothing where nothing is kept.
///
/// # Errors
/// [`Kind::Unhealthy`] when kube-apiserver does not list the Services, [`Kind::Hypervisor`] when
/// QEMU refuses.
pub(crate) fn restore(
    store: &Store,
    access: &mut Access,
    hypervisor: &dyn Hypervisor,
    api: &ApiClient,
    progress: &dyn Progress,
) -> Result<()> {
    if access.profile.forwards.is_empty() {
        return Ok(());
    }
    let step = progress.step("Open the ports of Services");
    let all = service::all(api)?;
    let domain = Names::new(store, &access.profile).domain;
    let done = changed(store, access, hypervisor, &domain, |f| f.reconcile(&all))?;
    if done == Reconciled::default() {
        step.skipped("they are open");
    } else {
        step.done(listing(&access.profile));
    }
    report(&done, progress);
    Ok(())
}

fn leads_to(forward: &ServiceForward, service: &Service, port: &ServicePort) -> bool {
    forward.namespace == service.namespace
        && forward.service == service.name
        && forward.port == port.port
        && Some(forward.protocol) == port.protocol
}

fn listing(profile: &Profile) -> String {
    let ways = profile.forwards.iter();
    ways.map(|f| format!("{}/{} at 127.0.0.1:{}", f.namespace, f.service, f.host))
        .collect::<Vec<_>>()
        .join(", ")
}

fn report(done: &Reconciled, progress: &dyn Progress) {
    for way in &done.dropped {
        progress.note(&format!(
            "port {} is free again: the Service {}/{} that it led to is gone",
            way.host, way.namespace, way.service
        ));
    }
    for (way, old) in &done.moved {
        progress.warn(&format!(
            "port {old} is taken by another program; {}/{} is at 127.0.0.1:{} now",
            way.namespace, way.service, way.host
        ));
    }
}
