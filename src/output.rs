//! Results for programs: JSON with a version, one object a command.

use serde::Serialize;
use serde_json::{Value, json};

use crate::error::Error;

/// The version of all JSON that kubby prints; it changes when a field changes its meaning or is
/// removed, not when one is added.
pub(crate) const API_VERSION: &str = "kubby.dev/v1";

/// Renders a result of a kind, such as `Status`, as one JSON object with a line break at its end.
pub(crate) fn json(kind: &str, data: &impl Serialize) -> String {
    let mut object = json!({"apiVersion": API_VERSION, "kind": kind});
    match serde_json::to_value(data) {
        Ok(Value::Object(fields)) => {
            if let Some(object) = object.as_object_mut() {
                object.extend(fields);
            }
        }
        Ok(other) => object["items"] = other,
        // Only maps with odd keys fail to serialise, and no result has one.
        Err(e) => object["error"] = json!(e.to_string()),
    }
    let mut text = format!("{object:#}\n");
    // Control characters in strings that JSON does not escape, and that some terminals obey.
    for c in '\u{7f}'..='\u{9f}' {
        if text.contains(c) {
            text = text.replace(c, &format!("\\u{:04x}", u32::from(c)));
        }
    }
    text
}

/// Renders an error for programs.
pub(crate) fn error_json(error: &Error) -> String {
    let details: Vec<Value> = error
        .details()
        .iter()
        .map(|(title, text)| json!({"title": title, "text": text}))
        .collect();
    json(
        "Error",
        &json!({
            "class": error.kind(),
            "exitCode": error.kind().exit_code(),
            "message": error.message(),
            "causes": error.causes(),
            "details": details,
            "hints": error.hints(),
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_carry_their_version_and_kind() {
        let text = json("Status", &json!({"host": "Running"}));
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["apiVersion"], API_VERSION);
        assert_eq!(value["kind"], "Status");
        assert_eq!(value["host"], "Running");
    }

    #[test]
    fn control_characters_are_escaped() {
        let bad = "\u{1b}[2J \u{9b}2J \u{7f}";
        let text = json("Status", &json!({"host": bad}));
        assert!(
            text.chars().all(|c| c == '\n' || !c.is_control()),
            "{text:?}"
        );
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["host"], bad);
    }

    #[test]
    fn errors_carry_class_and_exit_code() {
        let text = error_json(&Error::preflight("no").with_hint("do"));
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["class"], "preflight");
        assert_eq!(value["exitCode"], 10);
        assert_eq!(value["hints"][0], "do");
    }
}
