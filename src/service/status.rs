//! The external address of Services of the type LoadBalancer, which scripts wait for.

use serde_json::json;

use super::model::{Service, ServiceType};
use crate::api::ApiClient;
use crate::error::Result;

/// The address that kubby writes: a name, since kube-proxy would catch connections to an address.
const HOSTNAME: &str = "localhost";

/// Writes the address into the Service's status unless it has one. Returns whether it was written.
///
/// # Errors
/// [`crate::error::Kind::Unhealthy`] when kube-apiserver refuses.
pub(crate) fn publish(api: &ApiClient, service: &Service) -> Result<bool> {
    if service.kind != ServiceType::LoadBalancer || !service.ingress.is_empty() {
        return Ok(false);
    }
    patch(api, service, json!([{"hostname": HOSTNAME}]))?;
    Ok(true)
}

/// Removes the address that [`publish`] wrote from the Service's status.
///
/// # Errors
/// [`crate::error::Kind::Unhealthy`] when kube-apiserver refuses.
pub(crate) fn withdraw(api: &ApiClient, service: &Service) -> Result<bool> {
    if service.kind != ServiceType::LoadBalancer || service.ingress != [HOSTNAME] {
        return Ok(false);
    }
    patch(api, service, json!(null))?;
    Ok(true)
}

fn patch(api: &ApiClient, service: &Service, ingress: serde_json::Value) -> Result<()> {
    let (namespace, name) = (&service.namespace, &service.name);
    let path = format!("/api/v1/namespaces/{namespace}/services/{name}/status");
    let status = json!({"loadBalancer": {"ingress": ingress}});
    api.require_patch(&path, &json!({"status": status}))
}
