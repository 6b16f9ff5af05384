//! Changes of a tree carried out on its text, so that all other text stays as it is.
//!
//! Every edit in place is only a proposal: the new text is parsed and must mean exactly the tree
//! that is wanted. Forms that the edits below do not know (an alias for a whole list, `? key`
//! notation, …) give up or fail that proof, and then the file is written anew from its tree.

use std::ops::Range;

use super::edit::{self, Change};
use super::node::{Layout, Node};
use super::parse::{self, Document};
use super::{List, write};
use crate::error::{Error, Kind, Result};

mod block;
mod flow;

/// Replacements of byte ranges, not overlapping, in any order.
type Edits = Vec<(Range<usize>, String)>;

/// The changes of one list.
#[derive(Default)]
struct ListChanges<'c> {
    add: Option<&'c Node>,
    set: Vec<(usize, &'c Node)>,
    drop: Vec<usize>,
}

impl<'c> ListChanges<'c> {
    fn of(list: List, changes: &'c [Change]) -> Self {
        let mut mine = ListChanges::default();
        for change in changes {
            match change {
                Change::Add { list: l, item } if *l == list => mine.add = Some(item),
                Change::Set {
                    list: l,
                    index,
                    item,
                } if *l == list => {
                    mine.set.push((*index, item));
                }
                Change::Drop { list: l, index } if *l == list => mine.drop.push(*index),
                _ => {}
            }
        }
        mine
    }

    fn is_empty(&self) -> bool {
        self.add.is_none() && self.set.is_empty() && self.drop.is_empty()
    }
}

/// Carries the changes out on the text; the same text where there are none.
///
/// # Errors
/// [`Kind::Kubeconfig`] when no text can be proven to mean the changed tree.
pub(super) fn edit(text: &str, document: &Document, changes: &[Change]) -> Result<String> {
    if changes.is_empty() {
        return Ok(text.to_owned());
    }
    let mut wanted = document.root.clone();
    edit::apply(&mut wanted, changes);
    if let Some(new) = in_place(text, document, changes, &wanted)
        && means(&new, &wanted)
    {
        return Ok(new);
    }
    let new = rewritten(text, &wanted);
    if means(&new, &wanted) {
        return Ok(new);
    }
    Err(Error::new(
        Kind::Kubeconfig,
        "cannot edit the kubeconfig without changing its meaning",
    )
    .with_hint("simplify it first: kubectl config view --raw --flatten"))
}

fn means(text: &str, wanted: &Node) -> bool {
    parse::parse(text).is_ok_and(|document| document.root.same(wanted))
}

/// The whole file from its data: JSON stays JSON, all else becomes block style.
fn rewritten(text: &str, wanted: &Node) -> String {
    let json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    let new = if json {
        write::flow_pretty(wanted, "", "  ") + "\n"
    } else {
        write::block_document(wanted)
    };
    with_line_ends_of(text, new)
}

fn in_place(text: &str, document: &Document, changes: &[Change], wanted: &Node) -> Option<String> {
    let root = &document.root;
    let source = Source { text, document };
    let edits = match root.layout {
        Layout::Block => block::edits(&source, changes, wanted)?,
        Layout::Flow if !root.is_empty() || source.has_comment(&root.span) => {
            flow::edits(&source, changes, wanted)?
        }
        // Nothing, `null` or `{}`.
        _ => vec![
            (root.span.clone(), String::new()),
            source.lines_at(document.end, &write::block_document(wanted)),
        ],
    };
    source.apply(edits)
}

/// Gives kubby's line ends those of the text: its first line decides.
fn with_line_ends_of(text: &str, new: String) -> String {
    match text.find('\n') {
        Some(end) if text[..end].ends_with('\r') => new.replace('\n', "\r\n"),
        _ => new,
    }
}

/// The text being edited, with what is known about it.
struct Source<'t> {
    text: &'t str,
    document: &'t Document,
}

impl Source<'_> {
    /// The new text; nothing if edits overlap.
    fn apply(&self, mut edits: Edits) -> Option<String> {
        // Stable: insertions at one place stay in the order in which they were asked for.
        edits.sort_by_key(|(range, _)| (range.start, range.end));
        let mut new = String::with_capacity(self.text.len());
        let mut done = 0;
        for (range, replacement) in edits {
            if range.start < done {
                return None;
            }
            new.push_str(self.text.get(done..range.start)?);
            new.push_str(&with_line_ends_of(self.text, replacement));
            done = range.end;
        }
        new.push_str(self.text.get(done..)?);
        Some(new)
    }

    /// An edit that puts whole lines at a place that is a line's start or the text's end.
    fn lines_at(&self, place: usize, lines: &str) -> (Range<usize>, String) {
        let at_line_start = place == 0 || self.text[..place].ends_with('\n');
        let lead = if at_line_start { "" } else { "\n" };
        (place..place, format!("{lead}{lines}"))
    }

    /// Where the line begins, a byte-order mark left out.
    fn line_start(&self, place: usize) -> usize {
        let before = &self.text[..place];
        let start = before.rfind('\n').map_or(0, |i| i + 1);
        if self.text[start..].starts_with('\u{feff}') {
            place.min(start + 3)
        } else {
            start
        }
    }

    /// The white space that the line begins with.
    fn line_indent(&self, place: usize) -> &str {
        let line = &self.text[self.line_start(place)..place];
        &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
    }

    /// The start of the first line after content that ends at `end`; nothing if more content
    /// follows on the same line.
    fn line_after(&self, end: usize) -> Option<usize> {
        let start = self.line_start(end);
        if end > 0 && self.text[start..end].trim().is_empty() {
            // A block scalar's content reaches into the line where the next thing begins.
            return Some(start);
        }
        let rest = &self.text[end..];
        let rest = &rest[..rest.find('\n').map_or(rest.len(), |i| i + 1)];
        let comment = |at| self.document.comments.iter().any(|c| c.start == at);
        let blank = rest.len() - rest.trim_start().len();
        (blank == rest.len() || comment(end + blank)).then_some(end + rest.len())
    }

    /// The place after the colon of a key in `key: value` notation.
    fn after_colon(&self, key_end: usize) -> Option<usize> {
        let rest = &self.text[key_end..];
        let after = rest.trim_start_matches([' ', '\t']).strip_prefix(':')?;
        Some(self.text.len() - after.len())
    }

    fn has_comment(&self, range: &Range<usize>) -> bool {
        self.document
            .comments
            .iter()
            .any(|c| range.contains(&c.start))
    }

    /// An edit that gives a scalar that is there another value; in block style an empty one too.
    fn set_scalar(&self, old: &Node, value: &Node, flow: bool) -> Option<(Range<usize>, String)> {
        let text = value.text()?;
        if old.layout != Layout::Scalar {
            return None;
        }
        let quoted = flow || self.text[old.span.start..].starts_with('"');
        let new = if quoted {
            write::quoted(text)
        } else {
            write::string(text)
        };
        if old.span.is_empty() {
            return (!flow).then(|| (old.span.clone(), format!(" {new}")));
        }
        Some((old.span.clone(), new))
    }
}
