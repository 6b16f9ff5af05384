//! The Kubernetes objects of an add-on.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::items;
use crate::error::{Error, Result};

/// The label by which an add-on's objects are found.
pub(super) const LABEL: &str = "kubby.dev/addon";

/// The identity of an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// Group and version, such as `apps/v1`.
    pub api_version: String,
    /// Its kind, such as `Deployment`.
    pub kind: String,
    /// Its namespace in the manifest; whether the kind has namespaces the API knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind)?;
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

/// One object to apply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Object(Value);

impl Object {
    /// Gives a Deployment two replicas on two nodes, so that it survives the loss of one. Other kinds stay.
    pub(crate) fn double(&mut self) {
        if self.0["kind"] != "Deployment" {
            return;
        }
        let spec = &mut self.0["spec"];
        spec["replicas"] = 2.into();
        spec["template"]["spec"]["topologySpreadConstraints"] = json!([{
            "maxSkew": 1,
            // Otherwise both would be on the first node, before there are others.
            "minDomains": 2,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": spec["selector"],
            // The pods of a rollout alone: one that is about to go would keep a place, and both new ones be on one node.
            "matchLabelKeys": ["pod-template-hash"],
        }]);
    }

    /// Checks a document of a manifest.
    ///
    /// # Errors
    /// A text that says what is missing or wrong, for a sentence about the file.
    pub fn new(value: Value) -> Result<Self, String> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
        let kind = text("/kind").filter(|k| !k.is_empty());
        let kind = kind.ok_or("a document is not a Kubernetes object: it has no kind")?;
        let version = text("/apiVersion").filter(|v| !v.is_empty());
        let version = version.ok_or_else(|| format!("a {kind} has no apiVersion"))?;
        let Some(name) = text("/metadata/name") else {
            return Err(format!(
                "a {kind} has no metadata.name (an add-on is applied again and again, so generateName does not work)"
            ));
        };
        let namespace = &value["metadata"]["namespace"];
        if !namespace.is_null() && !namespace.is_string() {
            return Err(format!(
                "a {kind} has a namespace that is not a text: {namespace} (words such as yes, no, on, off, y, n need quotes in YAML)"
            ));
        }
        for (what, part) in [
            ("name", Some(name)),
            ("namespace", text("/metadata/namespace")),
            ("apiVersion", Some(version)),
        ] {
            if part.is_some_and(|part| !is_path_part(part, what == "apiVersion")) {
                return Err(format!(
                    "a {kind} has a {what} that no object can have: {part:?}"
                ));
            }
        }
        Ok(Object(value))
    }

    /// Returns the object's identity.
    pub fn reference(&self) -> ObjectRef {
        let text = |pointer: &str| {
            let value = self.0.pointer(pointer).and_then(Value::as_str);
            value.map(str::to_owned)
        };
        ObjectRef {
            api_version: text("/apiVersion").unwrap_or_default(),
            kind: text("/kind").unwrap_or_default(),
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name").unwrap_or_default(),
        }
    }

    /// Returns the document.
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// Returns the document with the add-on's label.
    pub fn labelled(&self, addon: &str) -> Value {
        let mut value = self.0.clone();
        if !value["metadata"]["labels"].is_object() {
            value["metadata"]["labels"] = json!({});
        }
        value["metadata"]["labels"][LABEL] = json!(addon);
        value
    }

    /// Returns its place in the order of applying: objects that others need come first.
    pub fn rank(&self) -> u8 {
        match self.0["kind"].as_str().unwrap_or_default() {
            "Namespace" => 0,
            "CustomResourceDefinition" => 1,
            "Deployment" | "DaemonSet" | "StatefulSet" | "ReplicaSet" | "Pod" | "Job"
            | "CronJob" => 3,
            // They block requests until the service that they point to runs.
            "APIService" | "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => 5,
            _ if is_builtin(self.0["apiVersion"].as_str().unwrap_or_default()) => 2,
            _ => 4,
        }
    }
}

/// Returns whether a group belongs to Kubernetes itself, rather than to a custom resource.
fn is_builtin(api_version: &str) -> bool {
    match api_version.split_once('/') {
        None => true,
        Some((group, _)) => !group.contains('.') || group.ends_with(".k8s.io"),
    }
}

fn is_path_part(text: &str, slash: bool) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c) || (slash && c == '/');
    !text.is_empty() && text.len() <= 253 && text != "." && text != ".." && text.chars().all(good)
}

/// Reads the objects of one manifest, also those in lists.
///
/// # Errors
/// [`crate::error::Kind::Usage`] with the file's name and the fault in it.
pub(super) fn parse(file: &str, text: &str) -> Result<Vec<Object>> {
    let fail = |why: String| {
        Error::usage(format!("the manifest {file} cannot be used"))
            .with_detail("why", why)
            .with_hint(
                "`kubectl apply --dry-run=client -f FILE` checks a manifest without a change",
            )
    };
    let documents = serde_saphyr::from_multiple::<Value>(text).map_err(|e| fail(e.to_string()))?;
    let mut objects = Vec::new();
    for document in documents {
        let kind = document["kind"].as_str().unwrap_or_default();
        let is_list = kind.ends_with("List") && document.get("items").is_some();
        let found = match document {
            // An empty document between two separators.
            Value::Null => Vec::new(),
            list if is_list => items(&list["items"]).cloned().collect(),
            object => vec![object],
        };
        for object in found {
            objects.push(Object::new(object).map_err(fail)?);
        }
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    const TWO: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: ns}\n---\n# nothing\n---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: apps/v1\n  kind: Deployment\n  metadata: {name: b}\n";

    #[test]
    fn documents_and_lists_are_read() {
        let objects = parse("x.yaml", TWO).unwrap();
        let names: Vec<String> = objects.iter().map(|o| o.reference().to_string()).collect();
        assert_eq!(names, ["ConfigMap ns/a", "Deployment b"]);
        assert_eq!(
            objects[1].labelled("dns")["metadata"]["labels"][LABEL],
            "dns"
        );
    }

    #[test]
    fn only_deployments_are_doubled() {
        let mut objects = parse("x.yaml", TWO).unwrap();
        let config = objects[0].clone();
        objects.iter_mut().for_each(Object::double);
        assert_eq!(objects[0], config);
        let spec = &objects[1].0["spec"];
        assert_eq!(spec["replicas"], 2);
        let spread = &spec["template"]["spec"]["topologySpreadConstraints"][0];
        assert_eq!(spread["topologyKey"], "kubernetes.io/hostname");
        assert_eq!(spread["matchLabelKeys"], json!(["pod-template-hash"]));
    }

    #[test]
    fn bad_objects_are_refused_with_the_reason() {
        for (text, why) in [
            ("just text", "no kind"),
            ("kind: Pod\nmetadata: {name: a}", "no apiVersion"),
            (
                "apiVersion: v1\nkind: Pod\nmetadata: {generateName: a}",
                "generateName",
            ),
            (
                "apiVersion: v1\nkind: Pod\nmetadata: {name: ../../x}",
                "no object can have",
            ),
            (
                "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: 'a?b'}",
                "namespace",
            ),
            (
                "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: n}",
                "need quotes",
            ),
            ("a: [", ""),
        ] {
            let e = parse("x.yaml", text).unwrap_err();
            assert_eq!(e.kind(), Kind::Usage);
            assert!(e.message().contains("x.yaml"), "{e}");
            assert!(e.details()[0].1.contains(why), "{text}: {:?}", e.details());
        }
    }

    #[test]
    fn objects_that_others_need_come_first() {
        let rank = |version: &str, kind: &str| {
            Object::new(json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}}))
                .unwrap()
                .rank()
        };
        let order = [
            rank("v1", "Namespace"),
            rank("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
            rank("rbac.authorization.k8s.io/v1", "ClusterRole"),
            rank("apps/v1", "Deployment"),
            rank("example.com/v1", "Thing"),
            rank("apiregistration.k8s.io/v1", "APIService"),
        ];
        assert!(order.is_sorted_by(|a, b| a < b), "{order:?}");
        assert_eq!(rank("apps/v1", "Deployment"), rank("v1", "Pod"));
    }
}
