//! What an add-on has put into the cluster, written down in the cluster itself: by that, an
//! object that a newer version of the add-on no longer has is removed, and `disable` finds all.

use serde_json::{Value, json};

use super::object::{LABEL, ObjectRef};
use crate::api::ApiClient;
use crate::error::{Kind, Result, ResultExt};

const PREFIX: &str = "kubby-addon-";
const MAPS: &str = "/api/v1/namespaces/kube-system/configmaps";

/// What an add-on has put into the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Its objects, in the order in which they were applied.
    pub objects: Vec<ObjectRef>,
    /// The digest of the add-on that was applied as a whole; empty until it was.
    pub digest: String,
}

/// Reads what an add-on has put into the cluster; `None` where it has never been applied.
///
/// # Errors
/// [`Kind::Unhealthy`] when the API does not answer as it should.
pub fn read(api: &ApiClient, addon: &str) -> Result<Option<Inventory>> {
    let answer = api.get(&path(addon))?;
    if answer.status == 404 {
        return Ok(None);
    }
    parse(&answer.require(&format!("asking what the add-on `{addon}` has made"))?).map(Some)
}

/// The names of all add-ons that have put something into the cluster.
///
/// # Errors
/// As [`read`].
pub fn names(api: &ApiClient) -> Result<Vec<String>> {
    let list = api
        .get(&format!(
            "{MAPS}?labelSelector={}",
            LABEL.replace('/', "%2F")
        ))?
        .require("asking for the add-ons in the cluster")?;
    let list: Value = serde_json::from_str(&list).context(Kind::Unhealthy, || {
        "kube-apiserver sent a list of ConfigMaps that does not parse".into()
    })?;
    Ok(list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item["metadata"]["name"].as_str()?.strip_prefix(PREFIX))
        .map(str::to_owned)
        .collect())
}

/// Writes it down.
///
/// # Errors
/// As [`read`].
pub fn write(api: &ApiClient, addon: &str, inventory: &Inventory) -> Result<()> {
    api.apply(&path(addon), &render(addon, inventory), true)?
        .require(&format!("writing down what the add-on `{addon}` has made"))
        .map(drop)
}

/// Forgets it: nothing of the add-on is left.
///
/// # Errors
/// As [`read`].
pub fn remove(api: &ApiClient, addon: &str) -> Result<()> {
    let answer = api.delete(&path(addon))?;
    if answer.status == 404 {
        return Ok(());
    }
    answer
        .require(&format!("forgetting the add-on `{addon}`"))
        .map(drop)
}

fn path(addon: &str) -> String {
    format!("{MAPS}/{PREFIX}{addon}")
}

fn render(addon: &str, inventory: &Inventory) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": format!("{PREFIX}{addon}"),
            "namespace": "kube-system",
            "labels": {LABEL: addon},
        },
        "data": {
            "objects": json!(inventory.objects).to_string(),
            "digest": inventory.digest,
        },
    })
}

fn parse(map: &str) -> Result<Inventory> {
    let fail = || "the list of an add-on's objects in the cluster is damaged".to_owned();
    let map: Value = serde_json::from_str(map).context(Kind::Unhealthy, fail)?;
    let text = map["data"]["objects"].as_str().unwrap_or("[]");
    Ok(Inventory {
        objects: serde_json::from_str(text).context(Kind::Unhealthy, fail)?,
        digest: map["data"]["digest"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let objects = vec![
            ObjectRef {
                api_version: "v1".into(),
                kind: "Service".into(),
                namespace: Some("kube-system".into()),
                name: "kube-dns".into(),
            },
            ObjectRef {
                api_version: "rbac.authorization.k8s.io/v1".into(),
                kind: "ClusterRole".into(),
                namespace: None,
                name: "system:coredns".into(),
            },
        ];
        let inventory = Inventory {
            objects,
            digest: "abc".into(),
        };
        let map = render("dns", &inventory);
        assert_eq!(parse(&map.to_string()).unwrap(), inventory);
        assert!(parse(r#"{"data":{"objects":"["}}"#).is_err());
    }
}
