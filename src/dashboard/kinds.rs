//! The kinds of objects that a cluster has, its own and added ones.

use serde_json::{Value, json};

use crate::api::{ApiClient, items};
use crate::error::Result;

/// The form of the API's answer about all of its groups at once, stable since Kubernetes 1.30.
const ALL_AT_ONCE: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Returns all kinds that can be listed.
pub(super) fn all(api: &ApiClient) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for path in ["/api", "/apis"] {
        let answer = api.get_as(path, ALL_AT_ONCE)?;
        all.extend(listable(
            &answer.require_json("asking for the kinds of objects")?,
        ));
    }
    Ok(all)
}

/// Returns each kind in the version that its group prefers.
fn listable(groups: &Value) -> Vec<Value> {
    let has =
        |list: &Value, wanted: &str| list.as_array().is_some_and(|l| l.contains(&json!(wanted)));
    let mut found: Vec<Value> = Vec::new();
    for group in items(&groups["items"]) {
        let name = group["metadata"]["name"].as_str().unwrap_or_default();
        for version in items(&group["versions"]) {
            for resource in items(&version["resources"]) {
                let known = |k: &Value| k["group"] == name && k["plural"] == resource["resource"];
                if !has(&resource["verbs"], "list") || found.iter().any(known) {
                    continue;
                }
                let mut parts = items(&resource["subresources"]);
                found.push(json!({
                    "group": name,
                    "version": version["version"],
                    "plural": resource["resource"],
                    "kind": resource["responseKind"]["kind"],
                    "namespaced": resource["scope"] == "Namespaced",
                    "deletable": has(&resource["verbs"], "delete"),
                    "scalable": parts.any(|part| part["subresource"] == "scale"),
                }));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_there_once_in_the_preferred_version() {
        let resource = |plural: &str, kind: &str, verbs: &[&str]| {
            json!({
                "resource": plural, "responseKind": {"kind": kind}, "scope": "Namespaced",
                "verbs": verbs, "subresources": [{"subresource": "scale"}, {"subresource": "status"}],
            })
        };
        let found = listable(&json!({"items": [{
            "metadata": {"name": "apps"},
            "versions": [
                {"version": "v2", "resources": [resource("sets", "Set", &["get", "list", "delete"])]},
                {"version": "v1", "resources": [
                    resource("sets", "Set", &["list"]),
                    resource("old", "Old", &["list"]),
                    resource("reviews", "Review", &["create"]),
                ]},
            ],
        }]}));
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[0],
            json!({
                "group": "apps", "version": "v2", "plural": "sets", "kind": "Set",
                "namespaced": true, "deletable": true, "scalable": true,
            })
        );
        assert_eq!(found[1]["version"], "v1");
        assert_eq!(found[1]["deletable"], false);
    }
}
