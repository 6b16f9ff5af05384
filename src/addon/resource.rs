//! Where an object's kind is found in the API, asked of the API itself.

use std::collections::HashMap;

use serde_json::Value;

use super::object::ObjectRef;
use crate::api::ApiClient;
use crate::error::{Error, Kind, Result, ResultExt};

/// The kinds that the API serves, by group and version, asked for once each.
#[derive(Default)]
pub struct Resources {
    known: HashMap<String, Vec<Resource>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Resource {
    kind: String,
    plural: String,
    namespaced: bool,
}

impl Resources {
    /// The path of an object; `None` where the API does not serve its kind (yet).
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when the API does not answer as it should.
    pub fn path(&mut self, api: &ApiClient, object: &ObjectRef) -> Result<Option<String>> {
        let root = root(&object.api_version);
        if !self.known.contains_key(&object.api_version) {
            let answer = api.get(&root)?;
            if answer.status == 404 {
                return Ok(None);
            }
            let list =
                answer.require(&format!("asking for the kinds of {}", object.api_version))?;
            self.known.insert(object.api_version.clone(), parse(&list)?);
        }
        let resource = self.known[&object.api_version]
            .iter()
            .find(|r| r.kind == object.kind);
        let Some(resource) = resource else {
            // Another version of a definition may come; what is known is asked for again then.
            self.known.remove(&object.api_version);
            return Ok(None);
        };
        Ok(Some(path(&root, resource, object)))
    }
}

fn root(api_version: &str) -> String {
    if api_version.contains('/') {
        format!("/apis/{api_version}")
    } else {
        format!("/api/{api_version}")
    }
}

fn path(root: &str, resource: &Resource, object: &ObjectRef) -> String {
    let name = &object.name;
    let plural = &resource.plural;
    if resource.namespaced {
        let namespace = object.namespace.as_deref().unwrap_or("default");
        format!("{root}/namespaces/{namespace}/{plural}/{name}")
    } else {
        format!("{root}/{plural}/{name}")
    }
}

fn parse(list: &str) -> Result<Vec<Resource>> {
    let list: Value = serde_json::from_str(list).context(Kind::Unhealthy, || {
        "kube-apiserver sent a list of kinds that does not parse".into()
    })?;
    let all = list["resources"].as_array().ok_or_else(|| {
        Error::new(
            Kind::Unhealthy,
            "kube-apiserver sent a list of kinds without any",
        )
    })?;
    Ok(all
        .iter()
        .filter_map(|r| {
            let plural = r["name"].as_str()?;
            // `deployments/scale` and the like are parts of a resource.
            (!plural.contains('/')).then(|| Resource {
                kind: r["kind"].as_str().unwrap_or_default().to_owned(),
                plural: plural.to_owned(),
                namespaced: r["namespaced"].as_bool().unwrap_or_default(),
            })
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_where_the_api_has_them() {
        let list = r#"{"resources":[
            {"name":"deployments/scale","kind":"Scale","namespaced":true},
            {"name":"deployments","kind":"Deployment","namespaced":true},
            {"name":"things","kind":"Thing","namespaced":false}]}"#;
        let all = parse(list).unwrap();
        assert_eq!(all.len(), 2);
        let object = |namespace: Option<&str>| ObjectRef {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            namespace: namespace.map(str::to_owned),
            name: "a".into(),
        };
        let apps = root("apps/v1");
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
            assert_eq!(path(&apps, resource, &object(namespace)), is);
        }
        assert_eq!(root("v1"), "/api/v1");
        assert!(parse("{}").is_err() && parse("x").is_err());
    }
}
