//! Edits of a file whose top level is in block style, as kubectl writes it.

use super::{Edits, ListChanges, Source, flow};
use crate::kubeconfig::edit::Change;
use crate::kubeconfig::node::{Key, Layout, Node, Value};
use crate::kubeconfig::{List, write};

/// The edits that carry the changes out; nothing where the notation is an unusual one.
pub(super) fn edits(source: &Source, changes: &[Change], wanted: &Node) -> Option<Edits> {
    let root = &source.document.root;
    let (first_key, _) = root.pairs().first()?;
    let column = first_key.span.start - source.line_start(first_key.span.start);
    let style = Style {
        column,
        dash: column + dash_offset(source, column),
    };
    let mut edits = Edits::new();
    let mut added = String::new();
    for (key, value) in wanted.pairs() {
        let Some(list) = List::ALL.into_iter().find(|l| l.key() == key.text) else {
            continue;
        };
        let changes = ListChanges::of(list, changes);
        if changes.is_empty() {
            continue;
        }
        match pair(root, &key.text) {
            Some(old) => edits.extend(list_edits(source, old, value, &changes, style)?),
            None => added += &new_list(key, value, style),
        }
    }
    for change in changes {
        let Change::Put { key, value } = change else {
            continue;
        };
        match pair(root, key) {
            Some((_, old)) => edits.push(source.set_scalar(old, value, false)?),
            None => {
                added += &write::block_pairs(&[(Key::made(key), value.clone())], column);
            }
        }
    }
    if !added.is_empty() {
        edits.push(source.lines_at(source.document.end, &added));
    }
    Some(edits)
}

/// Columns, counted in bytes; block indentation is always spaces.
#[derive(Clone, Copy)]
struct Style {
    /// Of the top level's keys.
    column: usize,
    /// Of the dashes of lists that kubby begins.
    dash: usize,
}

fn pair<'n>(root: &'n Node, key: &str) -> Option<&'n (Key, Node)> {
    root.pairs().iter().find(|(k, _)| k.text == key)
}

/// How far the file's own lists are indented from their keys.
fn dash_offset(source: &Source, column: usize) -> usize {
    List::ALL
        .iter()
        .filter_map(|list| source.document.root.get(list.key()))
        .filter(|node| node.layout == Layout::Block)
        .filter_map(|node| dash(source, node.items().first()?))
        .map(|dash| (dash - source.line_start(dash)).saturating_sub(column))
        .next()
        .unwrap_or(0)
}

/// Where the dash of an item stands that begins a line.
fn dash(source: &Source, item: &Node) -> Option<usize> {
    let mut end = item.span.start;
    loop {
        let start = source.line_start(end);
        let line = &source.text[start..end];
        let content = line.trim_start_matches(' ');
        if content.starts_with("- ") || content.trim_end() == "-" || content.starts_with("-\t") {
            return Some(start + line.len() - content.len());
        }
        // Comments, an anchor or a tag may stand between the dash and what it introduces.
        let between = content.trim_end();
        if !between.is_empty() && !between.starts_with(['#', '&', '!']) {
            return None;
        }
        end = start.checked_sub(1)?;
    }
}

fn new_list(key: &Key, value: &Node, style: Style) -> String {
    let items: String = value
        .items()
        .iter()
        .map(|i| write::block_item(i, style.dash))
        .collect();
    format!("{}{}:\n{items}", " ".repeat(style.column), key.text)
}

fn list_edits(
    source: &Source,
    (key, old): &(Key, Node),
    wanted: &Node,
    changes: &ListChanges,
    style: Style,
) -> Option<Edits> {
    let short = !source.text[old.span.clone()].contains('\n');
    match (&old.value, old.layout) {
        (Value::Seq(_), Layout::Block) => {
            let mut edits = item_edits(source, old, changes)?;
            if wanted.is_empty() {
                let colon = source.after_colon(key.span.end)?;
                edits.push((colon..colon, " []".into()));
            }
            Some(edits)
        }
        (Value::Null, Layout::Scalar) => begin_list(source, key, old, changes, style),
        (Value::Seq(items), Layout::Flow) if items.is_empty() && short => {
            begin_list(source, key, old, changes, style)
        }
        (Value::Seq(_), Layout::Flow) => flow::list_edits(source, old, changes),
        _ => None,
    }
}

/// Edits of a list in block style: items are whole lines.
fn item_edits(source: &Source, old: &Node, changes: &ListChanges) -> Option<Edits> {
    let items = old.items();
    let first_dash = dash(source, items.first()?)?;
    let column = first_dash - source.line_start(first_dash);
    let lines = |index: usize| {
        let item = items.get(index)?;
        Some(source.line_start(dash(source, item)?)..source.line_after(item.span.end)?)
    };
    let mut edits = Edits::new();
    for (index, item) in &changes.set {
        edits.push((lines(*index)?, write::block_item(item, column)));
    }
    for index in &changes.drop {
        edits.push((lines(*index)?, String::new()));
    }
    if let Some(item) = changes.add {
        let place = source.line_after(items.last()?.span.end)?;
        edits.push(source.lines_at(place, &write::block_item(item, column)));
    }
    Some(edits)
}

/// Edits that turn `key:`, `key: null` or `key: []` into a list in block style.
fn begin_list(
    source: &Source,
    key: &Key,
    old: &Node,
    changes: &ListChanges,
    style: Style,
) -> Option<Edits> {
    let item = changes.add?;
    let colon = source.after_colon(key.span.end)?;
    let blank_before = source.text.get(colon..old.span.start)?.trim().is_empty();
    let start = if blank_before { colon } else { old.span.start };
    let place = source.line_after(old.span.end)?;
    Some(vec![
        (start..old.span.end, String::new()),
        source.lines_at(place, &write::block_item(item, style.dash)),
    ])
}
