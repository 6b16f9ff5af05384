//! Edits in flow style: JSON files, and lists such as `clusters: [{…}]` in block style files.

use std::ops::Range;

use super::{Edits, ListChanges, Source};
use crate::kubeconfig::edit::Change;
use crate::kubeconfig::node::{Key, Layout, Node, Value};
use crate::kubeconfig::{List, write};

/// The edits of a file whose top level is `{…}`; nothing where the notation is an unusual one.
pub(super) fn edits(source: &Source, changes: &[Change], wanted: &Node) -> Option<Edits> {
    let root = &source.document.root;
    let shape = Shape::of(
        source,
        root,
        root.pairs().first().map(|(k, _)| k.span.start),
    );
    let mut edits = Edits::new();
    let mut added = Vec::new();
    for (key, value) in wanted.pairs() {
        let old = root.pairs().iter().find(|(k, _)| k.text == key.text);
        let list = List::ALL.into_iter().find(|l| l.key() == key.text);
        let changes = list
            .map(|list| ListChanges::of(list, changes))
            .filter(|c| !c.is_empty());
        match (old, changes) {
            (None, _) => added.push((key, value)),
            (Some((_, old)), Some(changes)) => {
                edits.extend(value_edits(source, old, value, &changes, &shape)?);
            }
            (Some(_), None) => {}
        }
    }
    for change in changes {
        if let Change::Put { key, value } = change
            && let Some((_, old)) = root.pairs().iter().find(|(k, _)| k.text == *key)
        {
            edits.push(source.set_scalar(old, value, true)?);
        }
    }
    let last = root.pairs().last().map(|(_, value)| value.span.end);
    edits.extend(insertion(
        root,
        last,
        &shape,
        added.iter().map(|(k, v)| shape.pair(k, v)),
    ));
    Some(edits)
}

/// Edits of one of the lists of a flow style file.
fn value_edits(
    source: &Source,
    old: &Node,
    wanted: &Node,
    changes: &ListChanges,
    shape: &Shape,
) -> Option<Edits> {
    match (&old.value, old.layout) {
        (Value::Null, Layout::Scalar) if !old.span.is_empty() => {
            Some(vec![(old.span.clone(), shape.value(wanted))])
        }
        (Value::Seq(items), Layout::Flow) if items.is_empty() && !source.has_comment(&old.span) => {
            Some(vec![(old.span.clone(), shape.value(wanted))])
        }
        (Value::Seq(_), Layout::Flow) => list_edits(source, old, changes),
        _ => None,
    }
}

/// Edits of a list `[…]`, its own comments and layout kept.
pub(super) fn list_edits(source: &Source, old: &Node, changes: &ListChanges) -> Option<Edits> {
    let items = old.items();
    let mut shape = Shape::of(source, old, items.first().map(|i| i.span.start));
    // `[` and `]` on lines of their own, but each item on one line.
    if items
        .first()
        .is_some_and(|i| !source.text[i.span.clone()].contains('\n'))
    {
        shape.spread = false;
    }
    let mut edits = Edits::new();
    for (index, item) in &changes.set {
        edits.push((items.get(*index)?.span.clone(), shape.value(item)));
    }
    match changes.drop[..] {
        [] => {}
        [index] => edits.extend(removal(source, old, index)?),
        // Neighbours would fight over the comma between them.
        _ => return None,
    }
    let last = items.last().map(|i| i.span.end);
    edits.extend(insertion(
        old,
        last,
        &shape,
        changes.add.map(|item| shape.value(item)),
    ));
    Some(edits)
}

/// One edit that puts members after the last one, or after the opening bracket.
fn insertion(
    parent: &Node,
    last: Option<usize>,
    shape: &Shape,
    members: impl IntoIterator<Item = String>,
) -> Option<(Range<usize>, String)> {
    let place = last.unwrap_or(parent.span.start + 1);
    let mut text = String::new();
    for member in members {
        if last.is_some() || !text.is_empty() {
            text.push(',');
            text.push_str(if shape.lines { "\n" } else { " " });
            text.push_str(&shape.indent);
        }
        text.push_str(&member);
    }
    (!text.is_empty()).then_some((place..place, text))
}

/// Edits that take one item out of `[…]` with one comma.
fn removal(source: &Source, old: &Node, index: usize) -> Option<Edits> {
    let items = old.items();
    let span = items.get(index)?.span.clone();
    let only_comma = |gap: Range<usize>| source.text.get(gap).is_some_and(|gap| gap.trim() == ",");
    if let Some(next) = items.get(index + 1) {
        if only_comma(span.end..next.span.start) {
            return Some(vec![(span.start..next.span.start, String::new())]);
        }
        let comma = comma_after(source, span.end)?;
        return Some(vec![
            (span, String::new()),
            (comma..comma + 1, String::new()),
        ]);
    }
    let Some(previous) = index.checked_sub(1).and_then(|i| items.get(i)) else {
        return Some(vec![only_item(source, old, span)]);
    };
    if only_comma(previous.span.end..span.start) {
        return Some(vec![(previous.span.end..span.end, String::new())]);
    }
    let comma = comma_after(source, previous.span.end)?;
    Some(vec![
        (comma..comma + 1, String::new()),
        (span, String::new()),
    ])
}

/// The edit that empties a list: brackets and all, unless there is a comment to keep.
fn only_item(source: &Source, old: &Node, span: Range<usize>) -> (Range<usize>, String) {
    let outside = [old.span.start..span.start, span.end..old.span.end];
    if outside.iter().any(|range| source.has_comment(range)) {
        return (span, String::new());
    }
    (old.span.clone(), "[]".into())
}

/// The next comma that is not part of a comment.
fn comma_after(source: &Source, place: usize) -> Option<usize> {
    let mut place = place;
    loop {
        let rest = &source.text[place..];
        place += rest.len() - rest.trim_start().len();
        match source.document.comments.iter().find(|c| c.start == place) {
            Some(comment) => place = comment.end,
            None => return source.text[place..].starts_with(',').then_some(place),
        }
    }
}

/// How a flow collection is laid out, so that new members look like the old ones.
struct Shape {
    /// Members stand on lines of their own.
    lines: bool,
    /// Members are themselves spread over several lines.
    spread: bool,
    /// What the lines of members begin with.
    indent: String,
    /// What each deeper level adds.
    step: String,
}

impl Shape {
    fn of(source: &Source, parent: &Node, first: Option<usize>) -> Self {
        let lines = first.is_some_and(|f| source.text[parent.span.start..f].contains('\n'));
        let indent = match first {
            Some(first) if lines => source.line_indent(first).to_owned(),
            _ => String::new(),
        };
        let outer = source.line_indent(parent.span.end.saturating_sub(1));
        let step = match indent.strip_prefix(outer) {
            Some(step) if !step.is_empty() => step.to_owned(),
            _ => "  ".to_owned(),
        };
        Shape {
            lines,
            spread: lines,
            indent,
            step,
        }
    }

    fn value(&self, node: &Node) -> String {
        if self.spread {
            write::flow_pretty(node, &self.indent, &self.step)
        } else {
            write::flow(node)
        }
    }

    fn pair(&self, key: &Key, value: &Node) -> String {
        format!("{}: {}", write::quoted(&key.text), self.value(value))
    }
}
