//! The record of an add-on's objects, kept in the cluster itself, so that objects that a newer version
//! of the add-on no longer has are removed, and `disable` finds all.

use serde_json::{Value, json};

use super::object::{LABEL, ObjectRef};
use crate::api::{ApiClient, items, selected};
use crate::error::{Kind, Result, ResultExt};

const PREFIX: &str = "kubby-addon-";
const MAPS: &str = "/api/v1/namespaces/kube-system/configmaps";

/// The objects that an add-on has in the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Inventory {
    /// Its objects, in the order in which they were applied.
    pub objects: Vec<ObjectRef>,
    /// The digest of the add-on that was applied; empty until all of it was.
    pub digest: String,
}

/// Reads an add-on's record; `None` where it has never been applied.
///
/// # Errors
/// [`Kind::Unhealthy`] when the API does not answer as it should.
pub(super) fn read(api: &ApiClient, addon: &str) -> Result<Option<Inventory>> {
    let answer = api.get(&path(addon))?;
    if answer.status == 404 {
        return Ok(None);
    }
    let what = format!("asking what the add-on `{addon}` has made");
    parse(&answer.require_json(&what)?).map(Some)
}

/// Returns the names of all add-ons that have objects in the cluster.
///
/// # Errors
/// As [`read`].
pub(crate) fn names(api: &ApiClient) -> Result<Vec<String>> {
    let answer = api.get(&selected(MAPS, LABEL))?;
    let list = answer.require_json("asking for the add-ons in the cluster")?;
    let names = items(&list["items"])
        .filter_map(|item| item["metadata"]["name"].as_str()?.strip_prefix(PREFIX));
    Ok(names.map(str::to_owned).collect())
}

/// Writes an add-on's record.
///
/// # Errors
/// As [`read`].
pub(super) fn write(api: &ApiClient, addon: &str, inventory: &Inventory) -> Result<()> {
    let what = format!("writing down what the add-on `{addon}` has made");
    let answer = api.apply(&path(addon), &render(addon, inventory), true)?;
    answer.require(&what).map(drop)
}

/// Removes the record of an add-on without objects.
///
/// # Errors
/// As [`read`].
pub(super) fn remove(api: &ApiClient, addon: &str) -> Result<()> {
    let answer = api.delete(&path(addon))?;
    if answer.status == 404 {
        return Ok(());
    }
    let what = format!("forgetting the add-on `{addon}`");
    answer.require(&what).map(drop)
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

fn parse(map: &Value) -> Result<Inventory> {
    let fail = || "the list of an add-on's objects in the cluster is damaged".to_owned();
    let text = map["data"]["objects"].as_str().unwrap_or("[]");
    let digest = map["data"]["digest"].as_str().unwrap_or_default();
    Ok(Inventory {
        objects: serde_json::from_str(text).context(Kind::Unhealthy, fail)?,
        digest: digest.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_record_is_read_again() {
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
        assert_eq!(parse(&map).unwrap(), inventory);
        assert!(parse(&json!({"data": {"objects": "["}})).is_err());
    }
}
