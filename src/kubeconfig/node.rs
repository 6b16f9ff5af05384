//! A YAML tree that remembers where in the text each node stands, and compares by meaning.
//!
//! Scalars keep their written text rather than a resolved number or boolean: YAML 1.1 readers
//! (kubectl) and 1.2 readers disagree on what `yes` or `0o17` is, and kubby only has to hand such
//! a value back as it was.

use std::ops::Range;

/// How a node is written; decides whether its text can be edited in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Not from a text: built by kubby.
    Made,
    /// A plain or quoted scalar.
    Scalar,
    /// A `|` or `>` scalar; the span begins after its header.
    BlockScalar,
    /// A collection in block style.
    Block,
    /// A collection in flow style, as in JSON.
    Flow,
    /// An alias such as `*name`; the value is a copy of what it stands for.
    Alias,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Nothing: `null`, `~` or no text at all.
    Null,
    /// Text that is a string for every reader.
    Str(String),
    /// Unquoted text that a reader may take for a number, boolean, timestamp or the like.
    Plain(String),
    /// A list.
    Seq(Vec<Node>),
    /// A mapping in the order of the text.
    Map(Vec<(Key, Node)>),
}

/// A mapping key; only scalars can be keys of a kubeconfig.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// The key's text.
    pub text: String,
    /// Where it stands, quotes included.
    pub span: Range<usize>,
}

/// A value with its place in the text.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// What it holds.
    pub value: Value,
    /// An explicit tag that changes its meaning, as `handle` + `suffix`.
    pub tag: Option<String>,
    /// Byte range, without anchors and tags; of a block collection, up to its last content.
    pub span: Range<usize>,
    /// How it is written.
    pub layout: Layout,
}

impl Node {
    /// A node that is in no text yet.
    pub fn made(value: Value) -> Self {
        Node {
            value,
            tag: None,
            span: 0..0,
            layout: Layout::Made,
        }
    }

    /// A string that is in no text yet.
    pub fn string(text: impl Into<String>) -> Self {
        Node::made(Value::Str(text.into()))
    }

    /// A mapping that is in no text yet.
    pub fn map<const N: usize>(pairs: [(&str, Node); N]) -> Self {
        Node::made(Value::Map(
            pairs.into_iter().map(|(k, v)| (Key::made(k), v)).collect(),
        ))
    }

    /// A list that is in no text yet.
    pub fn seq(items: Vec<Node>) -> Self {
        Node::made(Value::Seq(items))
    }

    /// The mapping's own pairs; nothing for other nodes.
    pub fn pairs(&self) -> &[(Key, Node)] {
        match &self.value {
            Value::Map(pairs) => pairs,
            _ => &[],
        }
    }

    /// The list's items; nothing for other nodes.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::Seq(items) => items,
            _ => &[],
        }
    }

    /// The value of a mapping's key, looking through merge keys (`<<`) as kubectl does.
    pub fn get(&self, key: &str) -> Option<&Node> {
        if let Some((_, node)) = self.pairs().iter().find(|(k, _)| k.text == key) {
            return Some(node);
        }
        let (_, merged) = self.pairs().iter().find(|(k, _)| k.text == "<<")?;
        merged
            .get(key)
            .or_else(|| merged.items().iter().find_map(|m| m.get(key)))
    }

    /// The text of a scalar; nothing for null and collections.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Str(text) | Value::Plain(text) => Some(text),
            _ => None,
        }
    }

    /// The text of the scalar under a key.
    pub fn text_of(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Node::text)
    }

    /// Null, an empty string or a collection without members.
    pub fn is_empty(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::Str(text) | Value::Plain(text) => text.is_empty(),
            Value::Seq(items) => items.is_empty(),
            Value::Map(pairs) => pairs.is_empty(),
        }
    }

    /// Sets a mapping's key, in place where it is there, else at the end.
    pub fn put(&mut self, key: &str, value: Node) {
        if !matches!(self.value, Value::Map(_)) {
            self.value = Value::Map(Vec::new());
        }
        if let Value::Map(pairs) = &mut self.value {
            match pairs.iter_mut().find(|(k, _)| k.text == key) {
                Some((_, old)) => *old = value,
                None => pairs.push((Key::made(key), value)),
            }
        }
    }

    /// Whether two trees mean the same: mappings in any order, lists in theirs.
    pub fn same(&self, other: &Node) -> bool {
        if self.tag != other.tag {
            return false;
        }
        match (&self.value, &other.value) {
            (Value::Null, Value::Null) => true,
            (Value::Str(a), Value::Str(b)) | (Value::Plain(a), Value::Plain(b)) => a == b,
            (Value::Seq(a), Value::Seq(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b))
            }
            (Value::Map(a), Value::Map(b)) => same_pairs(a, b),
            _ => false,
        }
    }
}

/// Keys are unique in a tree that was parsed, so equal counts and one direction suffice.
fn same_pairs(a: &[(Key, Node)], b: &[(Key, Node)]) -> bool {
    a.len() == b.len()
        && a.iter().enumerate().all(|(i, (key, value))| {
            // Edits hardly ever change the order, so the same place is the likeliest.
            let found = match b.get(i) {
                Some((k, v)) if k.text == key.text => Some(v),
                _ => b.iter().find(|(k, _)| k.text == key.text).map(|(_, v)| v),
            };
            found.is_some_and(|found| value.same(found))
        })
}

impl Key {
    /// A key that is in no text yet.
    pub fn made(text: &str) -> Self {
        Key {
            text: text.to_owned(),
            span: 0..0,
        }
    }
}

impl Value {
    /// The value of unquoted text.
    pub fn from_plain(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => Value::Null,
            _ if may_be_other_than_string(text) => Value::Plain(text.to_owned()),
            _ => Value::Str(text.to_owned()),
        }
    }
}

/// Whether some YAML reader, old or new, may take unquoted text for something else than a string.
/// Errs on the side of yes.
pub(super) fn may_be_other_than_string(text: &str) -> bool {
    const WORDS: [&str; 12] = [
        "null", "true", "false", "yes", "no", "on", "off", "y", "n", "inf", "nan", "",
    ];
    let lower = text.to_ascii_lowercase();
    let unsigned = lower.trim_start_matches(['+', '-', '.']);
    let number_like = text.starts_with(|c: char| c.is_ascii_digit() || "+-.~=<".contains(c))
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-._:~=< ".contains(c));
    number_like || WORDS.contains(&unsigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unquoted_text_is_a_string_only_where_every_reader_agrees() {
        for text in [
            "kubby",
            "https://h:1/p",
            "a b",
            "é",
            "/path",
            "12, 13",
            "x-1",
            "yesterday",
        ] {
            assert!(matches!(Value::from_plain(text), Value::Str(_)), "{text}");
        }
        for text in [
            "1",
            "-1",
            "0x1F",
            "1e3",
            "yes",
            "Off",
            "y",
            ".inf",
            "-.INF",
            "12:30",
            "=",
            "<<",
            "2001-12-14 21:59:43.10 -5",
            "0o17",
            "1_000",
            "+",
            "true",
        ] {
            assert!(matches!(Value::from_plain(text), Value::Plain(_)), "{text}");
        }
        for text in ["", "~", "null", "NULL"] {
            assert!(matches!(Value::from_plain(text), Value::Null), "{text}");
        }
    }

    #[test]
    fn order_matters_in_lists_only() {
        let a = Node::map([("x", Node::string("1")), ("y", Node::string("2"))]);
        let b = Node::map([("y", Node::string("2")), ("x", Node::string("1"))]);
        assert!(a.same(&b));
        assert!(
            !Node::seq(vec![Node::string("1"), Node::string("2")])
                .same(&Node::seq(vec![Node::string("2"), Node::string("1")]))
        );
        assert!(!a.same(&Node::map([("x", Node::string("1"))])));
        assert!(!Node::string("1").same(&Node::made(Value::Plain("1".into()))));
    }
}
