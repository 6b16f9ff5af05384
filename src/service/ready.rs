//! The wait for a ready pod of a Service.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::model::Service;
use crate::api::{ApiClient, items, selected};
use crate::error::{Error, Result};
use crate::progress::{Progress, Step};
use crate::wait;

/// The pause between two requests for the endpoints.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Waits until a Service has a ready endpoint.
///
/// # Errors
/// [`crate::error::Kind::Unhealthy`] when it has none after `limit`, with the selector and the pods that it
/// selects; [`crate::error::Kind::Interrupted`] on Ctrl-C.
pub(crate) fn wait(
    api: &ApiClient,
    service: &Service,
    limit: Duration,
    progress: &dyn Progress,
) -> Result<()> {
    let end = Instant::now() + limit;
    let namespace = format!("/apis/discovery.k8s.io/v1/namespaces/{}", service.namespace);
    let path = selected(
        &format!("{namespace}/endpointslices"),
        &format!("kubernetes.io/service-name={}", service.name),
    );
    let mut step: Option<Step> = None;
    let ready = wait::poll(end, ASK_EVERY, || {
        if has_endpoint(&api.get_json(&path)?) {
            return Ok(Some(()));
        }
        let title = || format!("Wait for a ready pod of {}", service.label());
        step.get_or_insert_with(|| progress.step(&title()));
        Ok(None)
    })?;
    ready.ok_or_else(|| no_endpoint(api, service, limit))?;
    if let Some(step) = step {
        step.done("");
    }
    Ok(())
}

/// Returns whether there is a ready endpoint. A missing condition means ready, as the API documents
/// it.
fn has_endpoint(slices: &Value) -> bool {
    items(&slices["items"])
        .flat_map(|slice| items(&slice["endpoints"]))
        .any(|endpoint| endpoint["conditions"]["ready"].as_bool().unwrap_or(true))
}

fn no_endpoint(api: &ApiClient, service: &Service, limit: Duration) -> Error {
    let (label, namespace) = (service.label(), &service.namespace);
    let after = limit.as_secs();
    if service.selector.is_empty() {
        return Error::unhealthy(format!(
            "the Service `{label}` has no selector, and after {after} s no ready endpoint"
        ))
        .with_hint(format!("kubectl -n {namespace} get endpointslices"));
    }
    let selector = service.selector.join(",");
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let list = api.get_json(&selected(&path, &selector));
    let pods = list.map(|list| pods(&list)).unwrap_or_default();
    let what = match pods.is_empty() {
        true => "there is no pod",
        false => "no pod is ready",
    };
    Error::unhealthy(format!(
        "the Service `{label}` has no endpoint: after {after} s {what} with the labels {selector}"
    ))
    .with_detail("its pods", pods.join("\n"))
    .with_hint(format!(
        "kubectl -n {namespace} describe pods -l {selector}"
    ))
    .with_hint("--wait SECONDS waits longer")
}

/// Returns one line for each pod: its name, its phase, and the reasons for which its containers
/// wait.
fn pods(list: &Value) -> Vec<String> {
    let line = |pod: &Value| {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let reasons: Vec<&str> = items(&pod["status"]["containerStatuses"])
            .filter_map(|s| s["state"]["waiting"]["reason"].as_str())
            .collect();
        let (name, phase) = (&pod["metadata"]["name"], &pod["status"]["phase"]);
        let line = format!("{}: {} {}", text(name), text(phase), reasons.join(", "));
        line.trim_end().to_owned()
    };
    items(&list["items"]).map(line).collect()
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
    fn pods_are_listed_with_the_reasons_why_they_wait() {
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
