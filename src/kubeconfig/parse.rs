//! Text → tree. Refuses what kubby could not edit faithfully, saying where it stands.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, Span, StructureStyle, Tag};

use super::node::{Key, Layout, Node, Value};
use crate::error::{Error, Kind, Result};

/// More nodes than any kubeconfig has; aliases of aliases can otherwise grow without end.
const MAX_NODES: usize = 500_000;
/// Deeper nesting than any kubeconfig has; bounds the recursion over the tree.
const MAX_DEPTH: usize = 200;

/// A parsed file: one document, or nothing but comments.
#[derive(Debug)]
pub(super) struct Document {
    /// The tree; null where the file holds no document.
    pub root: Node,
    /// Where an explicit `...` begins, else where the text ends.
    pub end: usize,
    /// The comments, `#` included.
    pub comments: Vec<Range<usize>>,
}

/// Parses a kubeconfig file.
///
/// # Errors
/// [`Kind::Kubeconfig`] with line and column for text that is not YAML, holds several documents,
/// a mapping with a key twice or with a key that is not a scalar, or is nested beyond reason.
pub(super) fn parse(text: &str) -> Result<Document> {
    let options = granit_parser::options! {
        // As kubectl's reader does it.
        block_scalar_eof_without_line_feed: true,
        max_buffered_comment_events: 1_000_000,
        block_nesting_limit: MAX_DEPTH,
        flow_nesting_limit: MAX_DEPTH,
    };
    let mut builder = Builder::new(text);
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|e| {
            at(
                text,
                e.marker().byte_offset().unwrap_or(text.len()),
                "it is not valid YAML",
            )
            .with_source(Error::new(Kind::Kubeconfig, e.info().to_string()))
        })?;
        builder.event(event, &span)?;
    }
    let end = builder.end.unwrap_or(text.len());
    let root = builder.root.unwrap_or_else(|| Node {
        span: end..end,
        ..Node::made(Value::Null)
    });
    Ok(Document {
        root,
        end,
        comments: builder.comments,
    })
}

/// An error that says where in the text something is wrong.
pub(super) fn at(text: &str, offset: usize, what: &str) -> Error {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    Error::new(
        Kind::Kubeconfig,
        format!("kubby cannot edit this kubeconfig: line {line}, column {column}: {what}"),
    )
}

/// A collection whose end has not come yet.
struct Open {
    node: Node,
    anchor: usize,
    key: Option<Key>,
    seen: HashSet<String>,
    size: usize,
    depth: usize,
}

/// An anchored node, to be copied where an alias names it.
struct Anchored {
    node: Node,
    size: usize,
    depth: usize,
}

struct Builder<'t> {
    text: &'t str,
    root: Option<Node>,
    end: Option<usize>,
    comments: Vec<Range<usize>>,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
}

impl<'t> Builder<'t> {
    fn new(text: &'t str) -> Self {
        Builder {
            text,
            root: None,
            end: None,
            comments: Vec::new(),
            open: Vec::new(),
            anchors: HashMap::new(),
        }
    }

    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<()> {
        let range = span.byte_range().unwrap_or(0..0);
        match event {
            Event::DocumentStart(..) if self.end.is_some() => Err(at(
                self.text,
                range.start,
                "a second document begins here; only one is allowed",
            )),
            Event::DocumentEnd => {
                self.end = Some(if range.is_empty() {
                    self.text.len()
                } else {
                    range.start
                });
                Ok(())
            }
            Event::Comment(..) => {
                self.comments.push(range);
                Ok(())
            }
            Event::Scalar(value, style, anchor, tag) => {
                let node = scalar(&value, style, tag.as_deref(), range);
                self.finish(node, anchor, 1, 1)
            }
            Event::Alias(id) => self.alias(id, range),
            Event::SequenceStart(style, anchor, tag) => {
                self.start(Value::Seq(Vec::new()), style, anchor, tag.as_deref(), range);
                Ok(())
            }
            Event::MappingStart(style, anchor, tag) => {
                self.start(Value::Map(Vec::new()), style, anchor, tag.as_deref(), range);
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(range),
            _ => Ok(()),
        }
    }

    fn start(
        &mut self,
        value: Value,
        style: StructureStyle,
        anchor: usize,
        tag: Option<&Tag>,
        span: Range<usize>,
    ) {
        let layout = match style {
            StructureStyle::Block => Layout::Block,
            StructureStyle::Flow => Layout::Flow,
        };
        let usual = if matches!(value, Value::Seq(_)) {
            "seq"
        } else {
            "map"
        };
        let tag = tag
            .filter(|t| t.core_suffix() != Some(usual))
            .map(full_name);
        let node = Node {
            value,
            tag,
            span,
            layout,
        };
        self.open.push(Open {
            node,
            anchor,
            key: None,
            seen: HashSet::new(),
            size: 1,
            depth: 0,
        });
    }

    fn close(&mut self, end: Range<usize>) -> Result<()> {
        let Some(mut open) = self.open.pop() else {
            return Ok(());
        };
        if open.node.layout == Layout::Flow {
            open.node.span.end = end.end;
        }
        self.finish(open.node, open.anchor, open.size, open.depth + 1)
    }

    fn alias(&mut self, id: usize, span: Range<usize>) -> Result<()> {
        let Some(target) = self.anchors.get(&id) else {
            return Err(at(
                self.text,
                span.start,
                "this alias is inside of what it stands for",
            ));
        };
        let (size, depth) = (target.size, target.depth);
        let node = Node {
            span,
            layout: Layout::Alias,
            ..target.node.clone()
        };
        self.finish(node, 0, size, depth)
    }

    /// Puts a complete node where it belongs: document, list, key or value.
    fn finish(&mut self, mut node: Node, anchor: usize, size: usize, depth: usize) -> Result<()> {
        if node.span.is_empty() && self.text[node.span.start..].starts_with(':') {
            // The parser places a value that is not written before the colon of its key.
            node.span = node.span.end + 1..node.span.end + 1;
        }
        if anchor != 0 {
            self.anchors.insert(
                anchor,
                Anchored {
                    node: node.clone(),
                    size,
                    depth,
                },
            );
        }
        let start = node.span.start;
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        parent.size += size;
        parent.depth = parent.depth.max(depth);
        if parent.size > MAX_NODES || parent.depth > MAX_DEPTH {
            return Err(at(
                self.text,
                start,
                "it is nested too deeply or repeated by too many aliases",
            ));
        }
        parent.node.span.end = parent.node.span.end.max(node.span.end);
        match (&mut parent.node.value, parent.key.take()) {
            (Value::Seq(items), _) => items.push(node),
            (Value::Map(pairs), Some(key)) => pairs.push((key, node)),
            (_, None) => {
                let key = key_of(self.text, node)?;
                if !parent.seen.insert(key.text.clone()) {
                    let what = format!("the key `{}` is there twice", key.text);
                    return Err(at(self.text, start, &what));
                }
                parent.key = Some(key);
            }
            // Only mappings ever have a key pending.
            (_, Some(_)) => {}
        }
        Ok(())
    }
}

fn key_of(text: &str, node: Node) -> Result<Key> {
    let span = node.span;
    match node.value {
        Value::Str(text) | Value::Plain(text) => Ok(Key { text, span }),
        _ => Err(at(text, span.start, "a mapping's key must be a string")),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, span: Range<usize>) -> Node {
    let string = style != ScalarStyle::Plain
        || tag.is_some_and(|t| t.core_suffix() == Some("str") || full_name(t) == "!");
    // The parser hands a value that is not written at all over as `~`.
    let text = if span.is_empty() && style == ScalarStyle::Plain {
        ""
    } else {
        text
    };
    let value = if string {
        Value::Str(text.to_owned())
    } else {
        Value::from_plain(text)
    };
    let layout = match style {
        ScalarStyle::Literal | ScalarStyle::Folded => Layout::BlockScalar,
        _ => Layout::Scalar,
    };
    let tag = tag
        .map(full_name)
        .filter(|t| t != "!" && t != "tag:yaml.org,2002:str");
    Node {
        value,
        tag,
        span,
        layout,
    }
}

fn full_name(tag: &Tag) -> String {
    format!("{}{}", tag.handle(), tag.suffix())
}
