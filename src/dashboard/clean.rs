//! The parts of the API's answers that the page gets: no more than it shows, and no secret values.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::api::items;

/// The annotation in which `kubectl apply` keeps an object, a Secret's values included.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Returns a table whose rows have the names and namespaces of their objects and nothing else of them.
pub(super) fn table(table: &Value) -> Value {
    let columns: Vec<Value> = items(&table["columnDefinitions"])
        .map(|c| json!({"name": c["name"], "priority": c["priority"], "about": c["description"]}))
        .collect();
    let rows: Vec<Value> = items(&table["rows"])
        .map(|row| {
            let of = &row["object"]["metadata"];
            json!({"cells": row["cells"], "name": of["name"], "namespace": of["namespace"]})
        })
        .collect();
    // The number of further objects is known only for lists without a selector.
    let rest = &table["metadata"];
    let cut = rest["continue"].as_str().is_some_and(|c| !c.is_empty());
    json!({"columns": columns, "rows": rows, "cut": cut, "more": rest["remainingItemCount"]})
}

/// Removes the parts of an object that people do not read; of a Secret only the lengths of its values
/// stay.
pub(super) fn object(object: &mut Value, secret: bool) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        if let Some(annotations) = metadata
            .get_mut("annotations")
            .and_then(Value::as_object_mut)
        {
            annotations.remove(LAST_APPLIED);
        }
    }
    if !secret {
        return;
    }
    for part in ["data", "stringData"] {
        if let Some(values) = object.get_mut(part).and_then(Value::as_object_mut) {
            hide(values);
        }
    }
}

fn hide(values: &mut Map<String, Value>) {
    for value in values.values_mut() {
        let content = STANDARD.decode(value.as_str().unwrap_or_default());
        let bytes = content.map_or(0, |content| content.len());
        *value = json!(format!("({bytes} bytes, not shown)"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_its_cells_and_where_its_object_is() {
        let cleaned = table(&json!({
            "metadata": {"continue": "abc", "remainingItemCount": 7},
            "columnDefinitions": [
                {"name": "Name", "type": "string", "format": "name", "priority": 0, "description": "d"},
            ],
            "rows": [{
                "cells": ["a"],
                "object": {"metadata": {
                    "name": "a", "namespace": "n", "annotations": {LAST_APPLIED: "password"},
                }},
            }],
        }));
        assert_eq!(
            cleaned,
            json!({
                "columns": [{"name": "Name", "priority": 0, "about": "d"}],
                "rows": [{"cells": ["a"], "name": "a", "namespace": "n"}],
                "cut": true,
                "more": 7,
            })
        );
        let whole = table(&json!({"metadata": {"continue": ""}}));
        assert_eq!(whole["cut"], false);
        assert_eq!(whole["more"], Value::Null);
    }

    #[test]
    fn a_secrets_values_are_not_shown() {
        let mut secret = json!({
            "kind": "Secret",
            "metadata": {
                "name": "s", "managedFields": [],
                "annotations": {LAST_APPLIED: "aHVudGVyMg==", "kept": "yes"},
            },
            "data": {"password": "aHVudGVyMg==", "empty": ""},
            "stringData": {"odd": "x"},
        });
        object(&mut secret, true);
        assert_eq!(
            secret,
            json!({
                "kind": "Secret",
                "metadata": {"name": "s", "annotations": {"kept": "yes"}},
                "data": {"password": "(7 bytes, not shown)", "empty": "(0 bytes, not shown)"},
                "stringData": {"odd": "(0 bytes, not shown)"},
            })
        );
        let mut map = json!({"metadata": {}, "data": {"a": "b"}});
        let before = map.clone();
        object(&mut map, false);
        assert_eq!(map, before);
    }
}
