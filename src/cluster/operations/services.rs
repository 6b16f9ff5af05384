//! `kubby service`: forwards from ports of the host to Services.

use std::time::Duration;

use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::cluster::machine::names::Names;
use crate::cluster::operations::running::Running;
use crate::cluster::start::services::{changed, report};
use crate::error::{Error, Result};
use crate::hypervisor::Protocol;
use crate::name::ProfileName;
use crate::profile::ServiceForward;
use crate::service::{self, Forwards, Service, ServicePort};

/// Time for kube-proxy to learn of a Service.
const PROXY_LIMIT: Duration = Duration::from_secs(15);

/// Which Service the user wants to reach.
#[derive(Debug, Clone)]
pub(crate) struct ServiceRequest {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// One of its ports, by name or number; all of them without.
    pub port: Option<String>,
    /// The port on this host's loopback; kubby chooses without.
    pub host_port: Option<u16>,
    /// The time to wait for a ready pod.
    pub wait: Duration,
}

/// A Service with the forwards_made that lead to it, one a port, `None` where there is none.
#[derive(Debug)]
pub(crate) struct Reachable {
    /// The Service.
    pub service: Service,
    /// Its ports and the ports of this host.
    pub ports: Vec<(ServicePort, Option<u16>)>,
}

const SO: &str = ", so its Services cannot be reached";

impl Running<'_> {
    fn services(&self) -> Result<Vec<Service>> {
        service::all(&self.api).map_err(|e| {
            e.with_hint(format!(
                "kubby status{} shows what runs",
                self.cluster.flag()
            ))
        })
    }

    /// Changes the forwards and saves the result, whatever came of it.
    fn change<T>(&mut self, change: impl FnOnce(&mut Forwards<'_>) -> Result<T>) -> Result<T> {
        changed(&self.env, &mut self.cluster, &self.host, change)
    }
}

/// Makes a Service reachable from this host.
///
/// # Errors
/// [`Kind::State`](crate::error::Kind::State) when there is no such Service or it has no port of the node,
/// [`Kind::Unhealthy`](crate::error::Kind::Unhealthy) when no pod is ready behind it, [`Kind::Preflight`](crate::error::Kind::Preflight) for a port that is taken.
pub(crate) fn reach(
    env: &Env<'_>,
    name: &ProfileName,
    request: &ServiceRequest,
) -> Result<Reachable> {
    let running = Running::open(env, name, SO)?;
    let progress = env.progress;
    let all = running.services()?;
    let service = match service::find(&all, &request.namespace, &request.name, &name.flag()) {
        Ok(service) => service,
        Err(e) => {
            // A forward to a Service that is gone would hold its port forever.
            let _lock = env.lock(name)?;
            let mut running = Running::open(env, name, SO)?;
            running.change(|forwards| forwards.reconcile(&all))?;
            return Err(e);
        }
    };
    let ports = service::pick_ports(service, request.port.as_deref())?;
    if request.host_port.is_some() && ports.len() > 1 {
        let labels: Vec<String> = ports.iter().map(ServicePort::label).collect();
        return Err(Error::usage(format!(
            "--host-port: the Service `{}` has several ports",
            service.label()
        ))
        .with_hint(format!("choose one with --port: {}", labels.join(", "))));
    }
    service::wait(&running.api, service, request.wait, progress)?;
    // Lock other commands out only after the wait, and read the profile again.
    let _lock = env.lock(name)?;
    let mut running = Running::open(env, name, SO)?;
    let known = running.cluster.profile.forwards.clone();
    let forwards_made = running.change(|forwards| {
        let done = forwards.reconcile(&all)?;
        report(&done, progress);
        ports
            .into_iter()
            .map(|port| {
                let forward = forwards.ensure(service, &port, request.host_port)?;
                Ok((port, forward))
            })
            .collect::<Result<Vec<_>>>()
    })?;
    for (_, forward) in forwards_made
        .iter()
        .filter(|(_, forward)| !known.contains(forward))
    {
        check_open(env, service, forward)?;
    }
    service::publish(&running.api, service)?;
    Ok(Reachable {
        service: service.clone(),
        ports: forwards_made
            .into_iter()
            .map(|(port, forward)| (port, Some(forward.host)))
            .collect(),
    })
}

/// Warns if the cluster refuses connections to a new forward.
fn check_open(env: &Env<'_>, service: &Service, forward: &ServiceForward) -> Result<()> {
    if forward.protocol == Protocol::Tcp && !service::wait_open(forward.host, PROXY_LIMIT)? {
        env.progress.warn(&format!(
            "connections to 127.0.0.1:{} are refused in the cluster: does a container listen on the \
             targetPort of {}?",
            forward.host,
            service.label()
        ));
    }
    Ok(())
}

/// Lists all Services, or those of one namespace, with the forwards that lead to them now.
///
/// # Errors
/// [`Kind::State`](crate::error::Kind::State) when the cluster does not run, [`Kind::Unhealthy`](crate::error::Kind::Unhealthy) when its API does not answer.
pub(crate) fn services(
    env: &Env<'_>,
    name: &ProfileName,
    namespace: Option<&str>,
) -> Result<Vec<Reachable>> {
    let running = Running::open(env, name, SO)?;
    let live = running.host.libvirt().forwards(&Names::of(name).domain)?;
    let forwards = &running.cluster.profile.forwards;
    let forward = |service: &Service, port: &ServicePort| {
        let leads = |f: &&ServiceForward| {
            f.namespace == service.namespace
                && f.service == service.name
                && f.port == port.port
                && Some(f.protocol) == port.protocol
                && Some(f.node) == port.node_port
                && live.contains(&f.rule())
        };
        forwards.iter().find(leads).map(|f| f.host)
    };
    let all = running.services()?.into_iter();
    Ok(all
        .filter(|s| namespace.is_none_or(|n| n == s.namespace))
        .map(|service| {
            let ports = service.ports.iter();
            let ports = ports.map(|p| (p.clone(), forward(&service, p))).collect();
            Reachable { service, ports }
        })
        .collect())
}

/// Closes the forwards to a Service, all of them or one port's. Returns the ports of this host that are
/// closed now.
///
/// # Errors
/// [`Kind::State`](crate::error::Kind::State) when there is none.
pub(crate) fn unreach(
    env: &Env<'_>,
    name: &ProfileName,
    namespace: &str,
    service: &str,
    port: Option<&str>,
) -> Result<Vec<u16>> {
    let (_, _lock) = Cluster::open_locked(env, name)?;
    let mut running = Running::open(env, name, SO)?;
    let all = running.services()?;
    let found = all
        .iter()
        .find(|s| s.namespace == namespace && s.name == service);
    let picked = match (found, port) {
        (Some(found), Some(port)) => Some(service::pick_ports(found, Some(port))?),
        _ => None,
    };
    let closed = running.change(|forwards| {
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
        for forward in all.into_iter().filter(ours) {
            forwards.close(&forward)?;
            closed.push(forward.host);
        }
        Ok(closed)
    })?;
    if closed.is_empty() {
        return Err(Error::state(format!(
            "no port of this host leads to the Service `{namespace}/{service}`"
        ))
        .with_hint(format!("kubby service{} list shows what does", name.flag())));
    }
    let mut rest = running.cluster.profile.forwards.iter();
    let is_used = rest.any(|f| f.namespace == namespace && f.service == service);
    if let Some(found) = found
        && !is_used
    {
        service::withdraw(&running.api, found)?;
    }
    Ok(closed)
}
