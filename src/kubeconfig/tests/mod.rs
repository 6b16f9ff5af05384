//! Tables and generated files for the pure functions.

use super::node::{Node, Value};
use super::parse::parse;
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

/// The tree without top level keys that say nothing, as a missing list equals an empty one.
fn meaning(text: &str) -> Node {
    let mut root = parse(text).unwrap_or_else(|e| panic!("{e}\n{text}")).root;
    if let Value::Map(pairs) = &mut root.value {
        pairs.retain(|(_, value)| !value.is_empty());
    }
    root
}

fn comments(text: &str) -> Vec<String> {
    parse(text)
        .unwrap()
        .comments
        .into_iter()
        .map(|c| text[c].trim_end().to_owned())
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

/// Fills `{clusters}` or `{clusters 2}` (a dash column) in a text.
fn fill(template: &str) -> String {
    let mut text = template.to_owned();
    for list in List::ALL {
        for dash in [0, 2, 4] {
            let (plain, with_dash) = (
                format!("{{{}}}", list.key()),
                format!("{{{} {dash}}}", list.key()),
            );
            text = text.replace(&with_dash, &ours(list, dash));
            text = text.replace(&plain, &ours(list, 0));
        }
    }
    text
}
