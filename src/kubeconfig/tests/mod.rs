//! Tables and generated files for the pure functions.

use serde_json::Value;
use serde_saphyr::granit_parser::{Event, Parser};

use super::entry::List;
use super::inspect::{Status, is_skeleton};
use super::text::{Root, read};
use super::*;

mod entries;
mod generated;
mod in_place;
mod refusal;

fn entry() -> Entry {
    Entry {
        name: "kubby".into(),
        server: "https://127.0.0.1:6443".into(),
        ca_pem: "CA".into(),
        client_cert_pem: "CERT".into(),
        client_key_pem: "KEY".into(),
        owner: Owner {
            profile: "kubby".into(),
            home: "/home/u/.kubby".into(),
        },
    }
}

fn merged(text: &str, set_current: bool) -> String {
    merge(Some(text), &entry(), set_current).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn removed(text: &str) -> String {
    let entry = entry();
    remove(text, &entry.name, &entry.owner)
        .unwrap()
        .expect("the entry is there")
}

/// The data without top level keys that say nothing, as a missing list equals an empty one.
fn meaning(text: &str) -> Root {
    let mut root = read(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    root.retain(|_, value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(pairs) => !pairs.is_empty(),
        _ => true,
    });
    root
}

fn comments(text: &str) -> Vec<String> {
    let events = Parser::new_from_str(text).map(Result::unwrap);
    let comments = events.filter(|(event, _)| matches!(event, Event::Comment(..)));
    comments
        .map(|(_, span)| text[span.byte_range().unwrap()].trim_end().to_owned())
        .collect()
}

/// kubby's items with dashes at a column, as they must appear in a file.
fn ours(list: List, dash: usize) -> String {
    let mark = |pad: &str| {
        format!(
            "{pad}    extensions:\n{pad}    - extension:\n{pad}        home: /home/u/.kubby\n\
             {pad}        profile: kubby\n{pad}      name: kubby.dev/owner\n"
        )
    };
    let pad = " ".repeat(dash);
    let content = match list {
        List::Clusters => [
            "certificate-authority-data: Q0E=",
            "server: https://127.0.0.1:6443",
        ],
        List::Users => ["client-certificate-data: Q0VSVA==", "client-key-data: S0VZ"],
        List::Contexts => ["cluster: kubby", "user: kubby"],
    };
    format!(
        "{pad}- {}:\n{pad}    {}\n{pad}    {}\n{}{pad}  name: kubby\n",
        list.inner(),
        content[0],
        content[1],
        mark(&pad)
    )
}

/// Fills `{clusters}`, `{clusters 2}` (a dash column) or `{clusters 2 without end}` in a text.
fn fill(template: &str) -> String {
    let mut text = template.to_owned();
    for list in List::ALL {
        for dash in [0, 2, 4] {
            let key = list.key();
            text = text.replace(&format!("{{{key} {dash}}}"), &ours(list, dash));
            let without_end = format!("{{{key} {dash} without end}}");
            text = text.replace(&without_end, ours(list, dash).trim_end());
            text = text.replace(&format!("{{{key}}}"), &ours(list, 0));
        }
    }
    text
}
