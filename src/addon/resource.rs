//! The paths of objects by their kinds, which the API lists.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::object::ObjectRef;
use crate::api::{ApiClient, Collection};
use crate::error::{Kind, Result, ResultExt};

/// The kinds that the API serves, by group and version, each read once.
#[derive(Default)]
pub(super) struct Resources {
    known: HashMap<String, Vec<Resource>>,
}

/// The API's list of a group's kinds.
#[derive(Deserialize)]
struct ResourceList {
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    kind: String,
    #[serde(rename = "name")]
    plural: String,
    namespaced: bool,
}

impl Resources {
    /// Returns the path of an object; `None` where the API does not serve its kind (yet).
    ///
    /// # Errors
    /// [`crate::error::Kind::Unhealthy`] when the API does not answer as it should.
    pub(super) fn path(&mut self, api: &ApiClient, object: &ObjectRef) -> Result<Option<String>> {
        let version = &object.api_version;
        if !self.known.contains_key(version) {
            let answer = api.get(&root(version))?;
            if answer.status == 404 {
                return Ok(None);
            }
            let list = answer.require_json(&format!("asking for the kinds of {version}"))?;
            self.known.insert(version.clone(), parse(&list)?);
        }
        let mut resources = self.known[version].iter();
        let Some(resource) = resources.find(|r| r.kind == object.kind) else {
            // A further definition may add the kind later, so that the list is read again then.
            self.known.remove(version);
            return Ok(None);
        };
        path(resource, object).map(Some)
    }
}

fn root(api_version: &str) -> String {
    match api_version.contains('/') {
        true => format!("/apis/{api_version}"),
        false => format!("/api/{api_version}"),
    }
}

fn path(resource: &Resource, object: &ObjectRef) -> Result<String> {
    let version = object.api_version.as_str();
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let namespace = object.namespace.as_deref().unwrap_or("default");
    let collection = Collection {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: resource.plural.clone(),
        namespace: resource.namespaced.then(|| namespace.to_owned()),
    };
    collection.path_of(&object.name)
}

fn parse(list: &Value) -> Result<Vec<Resource>> {
    let fail = || "kube-apiserver sent a list of kinds that does not parse".to_owned();
    let mut list = ResourceList::deserialize(list).context(Kind::Unhealthy, fail)?;
    // `deployments/scale` and the like are parts of a resource.
    list.resources.retain(|r| !r.plural.contains('/'));
    Ok(list.resources)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_are_found_where_the_api_has_them() {
        let list = json!({"resources": [
            {"name": "deployments/scale", "kind": "Scale", "namespaced": true},
            {"name": "deployments", "kind": "Deployment", "namespaced": true},
            {"name": "things", "kind": "Thing", "namespaced": false}]});
        let all = parse(&list).unwrap();
        assert_eq!(all.len(), 2);
        let object = |namespace: Option<&str>| ObjectRef {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            namespace: namespace.map(str::to_owned),
            name: "a".into(),
        };
        assert_eq!(root("apps/v1"), "/apis/apps/v1");
        for (resource, namespace, is) in [
            (
                &all[0],
                None,
                "/apis/apps/v1/namespaces/default/deployments/a",
            ),
            (
                &all[0],
                Some("x"),
                "/apis/apps/v1/namespaces/x/deployments/a",
            ),
            (&all[1], Some("x"), "/apis/apps/v1/things/a"),
        ] {
            assert_eq!(path(resource, &object(namespace)).unwrap(), is);
        }
        assert_eq!(root("v1"), "/api/v1");
        assert!(parse(&json!({})).is_err() && parse(&json!("x")).is_err());
    }
}
