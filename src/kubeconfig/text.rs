//! Kubeconfigs as text: reading their data, checked, and writing data as YAML.

use std::collections::BTreeMap;

use serde::Serialize as _;
use serde_json::Value;
use serde_saphyr::options::NonFiniteFloatPolicy;
use serde_saphyr::{Location, Spanned, UserMessageFormatter};

use crate::error::{Error, Result};

/// The data of a kubeconfig.
pub(super) type Root = serde_json::Map<String, Value>;

/// Returns whether a text is nothing but white space, perhaps after a byte-order mark.
pub(super) fn is_blank(text: &str) -> bool {
    text.trim_start_matches('\u{feff}').trim().is_empty()
}

/// Reads the data of a kubeconfig and checks what kubby relies on. A file without a document has
/// none.
///
/// # Errors
/// [`Kind::Kubeconfig`](crate::error::Kind::Kubeconfig) with line and column for text that is not YAML, is not a kubeconfig, holds
/// several documents or a key twice, or is nested or repeated beyond reason.
pub(super) fn read(text: &str) -> Result<Root> {
    #[cfg(test)]
    if let Some(root) = KNOWN.with_borrow(|known| known.get(text).cloned()) {
        return Ok(root);
    }
    let root = read_root(text)?;
    #[cfg(test)]
    KNOWN.with_borrow_mut(|known| {
        if known.len() >= 64 {
            known.clear();
        }
        known.insert(text.to_owned(), root.clone());
    });
    Ok(root)
}

#[cfg(test)]
thread_local! {
    /// The data of texts that were read before; the simulated life cycles read the same ones many times.
    static KNOWN: std::cell::RefCell<std::collections::HashMap<String, Root>> =
        std::cell::RefCell::default();
}

fn read_root(text: &str) -> Result<Root> {
    let whole: Spanned<Value> = parse(text)?;
    let root = match whole.value {
        Value::Null => Root::new(),
        Value::Object(root) => root,
        _ => return Err(at(Some(whole.referenced), "a kubeconfig must be a mapping")),
    };
    for (key, value) in &root {
        let what = match (key.as_str(), value) {
            (_, Value::Null) => continue,
            ("clusters" | "users" | "contexts", Value::Array(_)) => continue,
            ("clusters" | "users" | "contexts", _) => format!("`{key}` must be a list"),
            ("kind", kind) if kind != "Config" && kind != "" => {
                "its kind is not `Config`, so this is not a kubeconfig".into()
            }
            ("current-context", Value::Array(_) | Value::Object(_)) => {
                format!("`{key}` must be a string")
            }
            _ => continue,
        };
        let places: BTreeMap<String, Spanned<serde::de::IgnoredAny>> = parse(text)?;
        return Err(at(places.get(key).map(|place| place.referenced), &what));
    }
    Ok(root)
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    let options = serde_saphyr::options! {
        // The file holds secrets.
        with_snippet: false,
        ignore_binary_tag_for_string: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        // Many clusters may share the fields of one.
        budget: serde_saphyr::budget! { enforce_alias_anchor_ratio: false },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|e| {
        let why = e.render_with_formatter(&UserMessageFormatter);
        at(e.location(), "it cannot be read as one YAML document")
            .with_source(Error::kubeconfig(why))
    })
}

/// Returns an error that says where in the text something is wrong.
fn at(place: Option<Location>, what: &str) -> Error {
    let place = place.map_or_else(String::new, |place| {
        format!("line {}, column {}: ", place.line(), place.column())
    });
    Error::kubeconfig(format!("kubby cannot edit this kubeconfig: {place}{what}"))
}

/// Returns data as YAML in block style, as kubectl writes it; strings that a YAML reader, old or
/// new, may take for something else are quoted.
pub(super) fn yaml(value: &Value) -> String {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    // JSON is YAML as well.
    serde_saphyr::to_string_with_options(value, options).unwrap_or_else(|_| value.to_string())
}

/// Returns data as JSON, laid out as the old text is; nothing where that is not JSON.
pub(super) fn json_like(old: &str, data: &Root) -> Option<String> {
    let old = old.trim_start_matches('\u{feff}').trim_start();
    serde_json::from_str::<Root>(old).ok()?;
    let mut new = Vec::new();
    let mut lines = old.split_inclusive('\n');
    let written = match (lines.next(), lines.next()) {
        (Some(_), Some(line)) => {
            let indent = &line[..line.len() - line.trim_start().len()];
            let format = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            data.serialize(&mut serde_json::Serializer::with_formatter(
                &mut new, format,
            ))
        }
        _ => serde_json::to_writer(&mut new, data),
    };
    written.ok()?;
    let mut new = String::from_utf8(new).ok()?;
    if old.ends_with('\n') {
        new.push('\n');
    }
    let line_end = if old.contains("\r\n") { "\r\n" } else { "\n" };
    Some(new.replace('\n', line_end))
}
