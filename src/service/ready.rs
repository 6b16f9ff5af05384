//! Whether there is anybody behind a Service.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::Service;
use crate::api::ApiClient;
use crate::error::{Error, Kind, Result};
use crate::progress::Progress;
use crate::wait;

/// How often the endpoints are asked for.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Waits until a Service has a ready endpoint.
///
/// # Errors
/// [`Kind::Unhealthy`] when it has none after `limit`, with the selector and the pods that it
/// selects; [`Kind::Interrupted`] on Ctrl-C.
pub fn wait(
    api: &ApiClient,
    service: &Service,
    limit: Duration,
    progress: &dyn Progress,
) -> Result<()> {
    let ask = || Ok(has_endpoint(&api.get_json(&slices_path(service))?).then_some(()));
    if ask()?.is_some() {
        return Ok(());
    }
    let step = progress.step(&format!("Wait for a ready pod of {}", service.label()));
    wait::poll(Instant::now() + limit, ASK_EVERY, ask)?
        .ok_or_else(|| nobody(api, service, limit))?;
    step.done("");
    Ok(())
}

fn slices_path(service: &Service) -> String {
    format!(
        "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{}",
        service.namespace, service.name
    )
}

/// A condition that is not there means ready, as the API documents it.
fn has_endpoint(slices: &Value) -> bool {
    let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
    list(&slices["items"])
        .iter()
        .flat_map(|slice| list(&slice["endpoints"]))
        .any(|endpoint| endpoint["conditions"]["ready"].as_bool().unwrap_or(true))
}

fn nobody(api: &ApiClient, service: &Service, limit: Duration) -> Error {
    let label = service.label();
    let after = limit.as_secs();
    if service.selector.is_empty() {
        return Error::new(
            Kind::Unhealthy,
            format!("the Service `{label}` has no selector, and after {after} s no ready endpoint"),
        )
        .with_hint(format!(
            "kubectl -n {} get endpointslices",
            service.namespace
        ));
    }
    let selector = service.selector.join(",");
    let encoded = selector
        .replace('/', "%2F")
        .replace('=', "%3D")
        .replace(',', "%2C");
    let path = format!(
        "/api/v1/namespaces/{}/pods?labelSelector={encoded}",
        service.namespace
    );
    let pods = api
        .get_json(&path)
        .map(|list| pods(&list))
        .unwrap_or_default();
    let what = if pods.is_empty() {
        "there is no pod"
    } else {
        "no pod is ready"
    };
    Error::new(
        Kind::Unhealthy,
        format!(
            "the Service `{label}` leads nowhere: after {after} s {what} with the labels {selector}"
        ),
    )
    .with_detail("its pods", pods.join("\n"))
    .with_hint(format!(
        "kubectl -n {} describe pods -l {selector}",
        service.namespace
    ))
    .with_hint("--wait SECONDS waits longer")
}

/// One line a pod: its name, its phase, and what its containers wait for.
fn pods(list: &Value) -> Vec<String> {
    let items = list["items"].as_array();
    items
        .into_iter()
        .flatten()
        .map(|pod| {
            let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            let statuses = pod["status"]["containerStatuses"].as_array();
            let waiting = statuses
                .into_iter()
                .flatten()
                .filter_map(|s| s["state"]["waiting"]["reason"].as_str());
            let reasons: Vec<&str> = waiting.collect();
            format!(
                "{}: {} {}",
                text(&pod["metadata"]["name"]),
                text(&pod["status"]["phase"]),
                reasons.join(", ")
            )
            .trim_end()
            .to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_endpoint_is_ready_unless_it_says_otherwise() {
        let slices = |endpoints: Value| json!({"items": [{"endpoints": endpoints}]});
        assert!(!has_endpoint(&json!({"items": []})));
        assert!(!has_endpoint(&slices(Value::Null)));
        assert!(!has_endpoint(&slices(
            json!([{"conditions": {"ready": false}}])
        )));
        assert!(has_endpoint(&slices(json!([{"conditions": {}}]))));
        assert!(has_endpoint(&slices(
            json!([{"conditions": {"ready": false}}, {"conditions": {"ready": true}}])
        )));
    }

    #[test]
    fn pods_are_told_with_what_they_wait_for() {
        let list = json!({"items": [
            {"metadata": {"name": "web-1"}, "status": {"phase": "Pending", "containerStatuses":
                [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]}},
            {"metadata": {"name": "web-2"}, "status": {"phase": "Running"}},
        ]});
        assert_eq!(
            pods(&list),
            ["web-1: Pending ImagePullBackOff", "web-2: Running"]
        );
    }
}
