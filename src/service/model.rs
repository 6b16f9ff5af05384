//! The parts of Services that matter for forwards.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::{ApiClient, items};
use crate::error::{Error, Result};
use crate::hypervisor::Protocol;

/// `spec.type` of a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ServiceType {
    /// Inside the cluster only.
    ClusterIP,
    /// On a port of the node.
    NodePort,
    /// On an address of its own, and on a port of the node.
    LoadBalancer,
    /// A name for something outside.
    ExternalName,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServicePort {
    /// Its name; a Service with one port needs none.
    pub name: Option<String>,
    /// Its number.
    pub port: u16,
    /// Its transport; `None` for one that cannot be forwarded (SCTP).
    pub protocol: Option<Protocol>,
    /// The port of the node that leads to it.
    pub node_port: Option<u16>,
    /// Whether it speaks TLS, by its name, its application protocol or its number.
    pub https: bool,
}

impl ServicePort {
    /// Returns `http/80`, or `80` for a port without a name.
    pub(crate) fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("{name}/{}", self.port),
            None => self.port.to_string(),
        }
    }

    /// Returns the URL at a port of this host.
    pub(crate) fn url(&self, host_port: u16, https: bool) -> String {
        let scheme = match self.protocol {
            Some(Protocol::Udp) => "udp",
            _ if https || self.https => "https",
            _ => "http",
        };
        format!("{scheme}://127.0.0.1:{host_port}")
    }
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: ServiceType,
    /// The labels of its pods, as `key=value`; empty where another program manages its endpoints.
    pub selector: Vec<String>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Addresses and names in its load balancer's status.
    pub ingress: Vec<String>,
}

impl Service {
    /// Returns `namespace/name`.
    pub(crate) fn label(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Returns whether it has ports of the node at all.
    pub(crate) fn is_reachable(&self) -> bool {
        matches!(self.kind, ServiceType::NodePort | ServiceType::LoadBalancer)
    }

    fn parse(item: &Value) -> Option<Self> {
        let spec = &item["spec"];
        let text = |v: &Value| v.as_str().map(str::to_owned);
        let selector = spec["selector"].as_object();
        Some(Service {
            namespace: text(&item["metadata"]["namespace"])?,
            name: text(&item["metadata"]["name"])?,
            kind: ServiceType::deserialize(&spec["type"]).unwrap_or(ServiceType::ClusterIP),
            selector: selector
                .into_iter()
                .flatten()
                .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
                .collect(),
            ports: items(&spec["ports"]).filter_map(port).collect(),
            ingress: items(&item["status"]["loadBalancer"]["ingress"])
                .filter_map(|i| text(&i["hostname"]).or_else(|| text(&i["ip"])))
                .collect(),
        })
    }
}

fn port(item: &Value) -> Option<ServicePort> {
    let number = |v: &Value| v.as_u64().and_then(|n| u16::try_from(n).ok());
    let name = item["name"].as_str().map(str::to_owned);
    let port = number(&item["port"])?;
    let protocol = item["appProtocol"].as_str().unwrap_or_default();
    Some(ServicePort {
        port,
        protocol: match item["protocol"].as_str().unwrap_or("TCP") {
            "TCP" => Some(Protocol::Tcp),
            "UDP" => Some(Protocol::Udp),
            _ => None,
        },
        node_port: number(&item["nodePort"]).filter(|p| *p != 0),
        https: name.as_deref() == Some("https") || protocol == "https" || port == 443,
        name,
    })
}

/// Returns all Services of the cluster, sorted by namespace and name.
///
/// # Errors
/// [`crate::error::Kind::Unhealthy`] when kube-apiserver does not answer as it should.
pub(crate) fn all(api: &ApiClient) -> Result<Vec<Service>> {
    Ok(parse_list(&api.get_json("/api/v1/services")?))
}

fn parse_list(list: &Value) -> Vec<Service> {
    let mut all: Vec<Service> = items(&list["items"]).filter_map(Service::parse).collect();
    all.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    all
}

/// Finds a Service that the host can have a forward to.
///
/// # Errors
/// [`crate::error::Kind::State`] for one that does not exist, with those that do, and for one that has no port of
/// the node, with the commands that reach it.
pub(crate) fn find<'a>(
    all: &'a [Service],
    namespace: &str,
    name: &str,
    flag: &str,
) -> Result<&'a Service> {
    let is_it = |s: &&Service| s.namespace == namespace && s.name == name;
    let Some(service) = all.iter().find(is_it) else {
        return Err(unknown(all, namespace, name, flag));
    };
    if service.is_reachable() {
        return Ok(service);
    }
    let (label, kind) = (service.label(), service.kind);
    let error = Error::state(format!(
        "the Service `{label}` has the type {kind:?}, which has no port of the node"
    ));
    Err(match (service.kind, service.ports.first()) {
        (ServiceType::ClusterIP, Some(port)) => error
            .with_hint(format!(
                "while a command runs: kubectl -n {namespace} port-forward service/{name} {}:{}",
                if port.port < 1024 { port.port + 8000 } else { port.port },
                port.port
            ))
            .with_hint(format!(
                "permanently: kubectl -n {namespace} patch service {name} -p '{{\"spec\":{{\"type\":\"NodePort\"}}}}'"
            )),
        _ => error.with_hint("it is a name for something outside of the cluster: connect to that"),
    })
}

fn unknown(all: &[Service], namespace: &str, name: &str, flag: &str) -> Error {
    let reachable = all.iter().filter(|s| s.is_reachable());
    let mut there: Vec<String> = reachable
        .map(|s| format!("{} ({:?})", s.label(), s.kind))
        .collect();
    if there.is_empty() {
        there.push("none: only the types NodePort and LoadBalancer can".to_owned());
    }
    let message = format!("there is no Service `{name}` in the namespace `{namespace}`");
    let title = "Services that can be reached from this host";
    let mut error = Error::state(message).with_detail(title, there.join("\n"));
    if let Some(other) = all.iter().find(|s| s.name == name) {
        error = error.with_hint(format!("kubby service{flag} {name} -n {}", other.namespace));
    }
    error.with_hint(format!("kubby service{flag} list shows all Services"))
}

/// Returns the ports of a Service by name or number, or all of them.
///
/// # Errors
/// [`crate::error::Kind::Usage`] for a port that it does not have, [`crate::error::Kind::State`] for one without a port of
/// the node.
pub(crate) fn pick_ports(service: &Service, wanted: Option<&str>) -> Result<Vec<ServicePort>> {
    let matches = |p: &&ServicePort| match wanted {
        None => true,
        Some(w) => {
            p.name.as_deref() == Some(w)
                || w.parse()
                    .is_ok_and(|n: u16| n == p.port || Some(n) == p.node_port)
        }
    };
    let picked: Vec<ServicePort> = service.ports.iter().filter(matches).cloned().collect();
    if picked.is_empty() {
        let labels: Vec<String> = service.ports.iter().map(ServicePort::label).collect();
        let (label, wanted) = (service.label(), wanted.unwrap_or_default());
        let message = format!("--port: the Service `{label}` has no port `{wanted}`");
        return Err(Error::usage(message).with_hint(format!("it has {}", labels.join(", "))));
    }
    for port in &picked {
        let (why, hint) = match (port.protocol, port.node_port) {
            (None, _) => ("is neither TCP nor UDP", "choose another one with --port"),
            (_, None) => (
                "has no port of the node",
                "its spec may have allocateLoadBalancerNodePorts: false; remove that",
            ),
            _ => continue,
        };
        let (port, label) = (port.label(), service.label());
        let message = format!("the port {port} of the Service `{label}` {why}");
        return Err(Error::state(message).with_hint(hint));
    }
    Ok(picked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use serde_json::json;

    fn services() -> Vec<Service> {
        parse_list(&json!({"items": [
            {"metadata": {"namespace": "default", "name": "web"},
             "spec": {"type": "NodePort", "selector": {"app": "web", "tier": "front"}, "ports": [
                {"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080},
                {"name": "admin", "port": 8443, "appProtocol": "https", "nodePort": 30443},
             ]}},
            {"metadata": {"namespace": "apps", "name": "db"},
             "spec": {"type": "ClusterIP", "ports": [{"port": 3306}]}},
            {"metadata": {"namespace": "apps", "name": "lb"},
             "spec": {"type": "LoadBalancer", "ports": [{"port": 8080, "nodePort": 31000},
                {"name": "odd", "port": 9, "protocol": "SCTP", "nodePort": 31001}]},
             "status": {"loadBalancer": {"ingress": [{"hostname": "localhost"}]}}},
            {"metadata": {"namespace": "apps", "name": "out"},
             "spec": {"type": "ExternalName", "externalName": "example.org"}},
        ]}))
    }

    #[test]
    fn services_are_read_and_sorted() {
        let all = services();
        let labels: Vec<String> = all.iter().map(Service::label).collect();
        assert_eq!(labels, ["apps/db", "apps/lb", "apps/out", "default/web"]);
        let web = &all[3];
        assert_eq!(web.selector, ["app=web", "tier=front"]);
        assert_eq!(web.ports[0].label(), "http/80");
        assert_eq!(web.ports[0].url(30080, false), "http://127.0.0.1:30080");
        assert_eq!(web.ports[0].url(30080, true), "https://127.0.0.1:30080");
        assert_eq!(web.ports[1].url(1, false), "https://127.0.0.1:1");
        assert_eq!(all[1].ingress, ["localhost"]);
        assert_eq!(all[1].ports[1].protocol, None);
    }

    #[test]
    fn errors_about_unreachable_services_have_hints() {
        let all = services();
        find(&all, "default", "web", "").unwrap();
        let e = find(&all, "apps", "db", "").unwrap_err();
        assert_eq!(e.kind(), Kind::State);
        assert!(
            e.hints()[0].contains("port-forward service/db 3306:3306"),
            "{:?}",
            e.hints()
        );
        let e = find(&all, "apps", "out", "").unwrap_err();
        assert!(e.message().contains("ExternalName"), "{e}");
        let e = find(&all, "apps", "web", " -p dev").unwrap_err();
        assert_eq!(
            e.details()[0].1,
            "apps/lb (LoadBalancer)\ndefault/web (NodePort)"
        );
        assert_eq!(e.hints()[0], "kubby service -p dev web -n default");
    }

    #[test]
    fn ports_are_picked_by_name_or_number() {
        let all = services();
        let web = &all[3];
        let picked = |wanted| -> Vec<u16> {
            let ports = pick_ports(web, wanted).unwrap();
            ports.iter().map(|p| p.port).collect()
        };
        assert_eq!(picked(None), [80, 8443]);
        assert_eq!(picked(Some("http")), [80]);
        assert_eq!(picked(Some("8443")), [8443]);
        assert_eq!(picked(Some("30080")), [80]);
        let e = pick_ports(web, Some("metrics")).unwrap_err();
        assert_eq!(e.kind(), Kind::Usage);
        assert!(
            e.hints()[0].contains("http/80, admin/8443"),
            "{:?}",
            e.hints()
        );
        let e = pick_ports(&all[1], None).unwrap_err();
        assert!(e.message().contains("neither TCP nor UDP"), "{e}");
        assert_eq!(pick_ports(&all[1], Some("8080")).unwrap().len(), 1);
    }
}
