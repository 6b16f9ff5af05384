//! kube-apiserver of nodes in memory: objects by their paths, all of them ready.

use std::sync::Arc;

use base64::Engine as _;
use serde_json::{Value, json};

use super::disk::Content;
use super::world::World;
use crate::addon;
use crate::api::{Answer, Request, Transport};
use crate::error::{Error, Result};
use crate::network::API_PORT;

/// The way to a node's API through a port of the host.
pub(super) struct Api {
    pub(super) world: Arc<World>,
    pub(super) port: u16,
    pub(super) ca: String,
    pub(super) certificate: String,
}

/// Kinds that have no namespace, of those that kubby's add-ons use.
const CLUSTER_WIDE: [&str; 6] = [
    "APIService",
    "ClusterRole",
    "ClusterRoleBinding",
    "Namespace",
    "Node",
    "StorageClass",
];

impl Transport for Api {
    fn send(&self, request: &Request<'_>) -> Result<Answer> {
        let silent = || Error::unhealthy(format!("kube-apiserver did not answer {}", request.path));
        let mut state = self.world.state();
        let domain = state
            .listener(self.port)
            .map(str::to_owned)
            .ok_or_else(silent)?;
        let leads_here = state.run(&domain)?.forwards.iter();
        let leads_here = leads_here.filter(|f| f.host == self.port && f.guest == API_PORT);
        if leads_here.count() == 0 {
            return Err(silent());
        }
        let content = state.running(&domain).ok_or_else(silent)?;
        if content.text("/etc/kubernetes/pki/ca.crt") != self.ca.trim() {
            return Err(silent());
        }
        let certificate = base64::engine::general_purpose::STANDARD.encode(&self.certificate);
        let health = request.path.starts_with("/readyz");
        if !health && !content.text("/root/.kube/config").contains(&certificate) {
            return Ok(answer(401, &json!({"message": "Unauthorized"})));
        }
        Ok(respond(content, request))
    }
}

fn answer(status: u16, value: &Value) -> Answer {
    Answer {
        status,
        body: value.to_string(),
    }
}

fn respond(content: &mut Content, request: &Request<'_>) -> Answer {
    let (path, _) = request.path.split_once('?').unwrap_or((request.path, ""));
    if is_node(path) && request.method.as_str() != "GET" {
        return answer(200, &json!({}));
    }
    match request.method.as_str() {
        "GET" => get(content, path),
        "DELETE" => match Arc::make_mut(&mut content.objects).remove(path) {
            Some(object) => answer(200, &object),
            None => answer(404, &json!({"message": "not found"})),
        },
        _ => {
            let (_, body) = request.body.as_ref().unwrap();
            let object: Value = serde_json::from_str(body).unwrap();
            Arc::make_mut(&mut content.objects).insert(path.to_owned(), object);
            answer(200, &json!({}))
        }
    }
}

/// Returns whether a path is that of a Node object: all that are asked for are there.
fn is_node(path: &str) -> bool {
    let name = path.strip_prefix("/api/v1/nodes/");
    name.is_some_and(|name| !name.contains('/'))
}

fn get(content: &Content, path: &str) -> Answer {
    if let Some(object) = content.objects.get(path) {
        let mut object = object.clone();
        object["status"] = json!({
            "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "readyReplicas": 1,
            "desiredNumberScheduled": 1, "numberAvailable": 1, "updatedNumberScheduled": 1,
            "conditions": [{"type": "Available", "status": "True"}],
        });
        return answer(200, &object);
    }
    if is_node(path) {
        return answer(
            200,
            &json!({
                "metadata": {"labels": {}},
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "nodeInfo": {"kubeletVersion": "v1.37.2"},
                },
            }),
        );
    }
    if path.starts_with("/api/v1/nodes/") && path.ends_with("/proxy/healthz") {
        return Answer {
            status: 200,
            body: "ok".into(),
        };
    }
    let lists = ["/pods", "/services", "/persistentvolumes"];
    if lists.iter().any(|list| path.ends_with(list)) {
        return answer(200, &json!({"items": []}));
    }
    let is_there = [
        "/readyz",
        "/version",
        "/api/v1/namespaces/kube-system",
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/cluster-admin",
        "/api/v1/namespaces/default/serviceaccounts/default",
    ];
    if is_there.contains(&path) {
        return answer(200, &json!({}));
    }
    let version = path.strip_prefix("/apis/").or(path.strip_prefix("/api/"));
    match version.filter(|version| version.matches('/').count() < 2) {
        Some(version) => answer(200, &kinds(version)),
        None => answer(404, &json!({"message": "not found"})),
    }
}

/// Returns the kinds that a version of the API serves: those that kubby's add-ons use.
fn kinds(version: &str) -> Value {
    let all = addon::builtin();
    let objects = all.iter().flat_map(|addon| &addon.objects);
    let references = objects.map(|object| object.reference());
    let of_version = references.filter(|object| object.api_version == version);
    let resources = of_version.map(|object| {
        json!({
            "name": format!("{}s", object.kind.to_lowercase()),
            "kind": object.kind,
            "namespaced": !CLUSTER_WIDE.contains(&object.kind.as_str()),
        })
    });
    json!({"resources": resources.collect::<Vec<_>>()})
}
