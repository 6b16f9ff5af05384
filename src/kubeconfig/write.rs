//! Tree → text, in block style as kubectl writes it and in flow style that is valid JSON.

use std::fmt::Write as _;

use super::node::{Key, Node, Value, may_be_other_than_string};

/// A mapping's pairs in block style, each line indented by `indent` spaces.
pub(super) fn block_pairs(pairs: &[(Key, Node)], indent: usize) -> String {
    let mut out = String::new();
    write_pairs(&mut out, pairs, indent, true);
    out
}

/// One list item in block style with its dash at column `indent`.
pub(super) fn block_item(item: &Node, indent: usize) -> String {
    let mut out = String::new();
    write_item(&mut out, item, indent, true);
    out
}

/// A whole document in block style.
pub(super) fn block_document(root: &Node) -> String {
    match &root.value {
        Value::Map(pairs) if !pairs.is_empty() && root.tag.is_none() => block_pairs(pairs, 0),
        _ => flow(root) + "\n",
    }
}

fn write_pairs(out: &mut String, pairs: &[(Key, Node)], indent: usize, mut indent_first: bool) {
    for (key, value) in pairs {
        if indent_first {
            out.push_str(&" ".repeat(indent));
        }
        indent_first = true;
        out.push_str(&string(&key.text));
        out.push(':');
        write_tag(out, value, true);
        match &value.value {
            Value::Seq(items) if !items.is_empty() => {
                out.push('\n');
                items
                    .iter()
                    .for_each(|item| write_item(out, item, indent, true));
            }
            Value::Map(pairs) if !pairs.is_empty() => {
                out.push('\n');
                write_pairs(out, pairs, indent + 2, true);
            }
            _ => {
                let _ = writeln!(out, " {}", scalar(value));
            }
        }
    }
}

fn write_item(out: &mut String, item: &Node, indent: usize, indent_first: bool) {
    if indent_first {
        out.push_str(&" ".repeat(indent));
    }
    out.push('-');
    write_tag(out, item, true);
    // A tag needs the collection on a line of its own.
    let inline = item.tag.is_none();
    let lead = if inline { ' ' } else { '\n' };
    match &item.value {
        Value::Seq(items) if !items.is_empty() => {
            out.push(lead);
            for (i, inner) in items.iter().enumerate() {
                write_item(out, inner, indent + 2, i > 0 || !inline);
            }
        }
        Value::Map(pairs) if !pairs.is_empty() => {
            out.push(lead);
            write_pairs(out, pairs, indent + 2, !inline);
        }
        _ => {
            let _ = writeln!(out, " {}", scalar(item));
        }
    }
}

/// The text of a scalar or an empty collection, without its tag.
fn scalar(node: &Node) -> String {
    match &node.value {
        Value::Null => "null".into(),
        Value::Str(text) => string(text),
        Value::Plain(text) => text.clone(),
        Value::Seq(_) => "[]".into(),
        Value::Map(_) => "{}".into(),
    }
}

/// A string in block style: unquoted where nobody can misread it.
pub(super) fn string(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./:=+@".contains(c))
        && !text.ends_with(':')
        && !may_be_other_than_string(text);
    if plain { text.to_owned() } else { quoted(text) }
}

/// A string in double quotes, valid as JSON and as YAML of either version.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Control characters, and what YAML 1.1 takes for a line break or a mark.
            '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A node on one line: JSON, as long as its scalars and tags are JSON's.
pub(super) fn flow(node: &Node) -> String {
    let mut out = String::new();
    write_flow(&mut out, node, None, "");
    out
}

/// A node over several lines; every line after the first begins with `indent`, and each level
/// adds `step`.
pub(super) fn flow_pretty(node: &Node, indent: &str, step: &str) -> String {
    let mut out = String::new();
    write_flow(&mut out, node, Some(step), indent);
    out
}

fn write_flow(out: &mut String, node: &Node, step: Option<&str>, indent: &str) {
    write_tag(out, node, false);
    let inner = step.map(|step| format!("{indent}{step}"));
    let newline = |out: &mut String, indent: &str| {
        out.push('\n');
        out.push_str(indent);
    };
    let separate = |out: &mut String, first: bool| {
        if !first {
            out.push(',');
        }
        match &inner {
            Some(inner) => newline(out, inner),
            None if !first => out.push(' '),
            None => {}
        }
    };
    let deeper = inner.as_deref().unwrap_or("");
    match &node.value {
        Value::Seq(items) if !items.is_empty() => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                separate(out, i == 0);
                write_flow(out, item, step, deeper);
            }
            if step.is_some() {
                newline(out, indent);
            }
            out.push(']');
        }
        Value::Map(pairs) if !pairs.is_empty() => {
            out.push('{');
            for (i, (key, value)) in pairs.iter().enumerate() {
                separate(out, i == 0);
                out.push_str(&quoted(&key.text));
                out.push_str(": ");
                write_flow(out, value, step, deeper);
            }
            if step.is_some() {
                newline(out, indent);
            }
            out.push('}');
        }
        Value::Str(text) => out.push_str(&quoted(text)),
        _ => out.push_str(&scalar(node)),
    }
}

/// A tag in its verbatim form, which needs no directive.
fn write_tag(out: &mut String, node: &Node, before: bool) {
    if let Some(tag) = &node.tag {
        let _ = if before {
            write!(out, " !<{tag}>")
        } else {
            write!(out, "!<{tag}> ")
        };
    }
}
