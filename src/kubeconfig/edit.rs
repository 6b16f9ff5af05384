//! What to change in a kubeconfig, decided on its tree.

use super::node::{Key, Layout, Node, Value};
use super::{Entry, List, Owner, State, Status, mark, read, splice, write};
use crate::error::{Error, Kind, Result};

/// One change of the tree. Indices are those of the tree before all changes.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// A list gets one more item.
    Add { list: List, item: Node },
    /// A list's item is replaced.
    Set {
        list: List,
        index: usize,
        item: Node,
    },
    /// A list's item goes.
    Drop { list: List, index: usize },
    /// A key of the top level gets a value.
    Put { key: &'static str, value: Node },
}

/// The tree of a kubeconfig with the entry alone.
pub(super) fn fresh_root(entry: &Entry, set_current: bool) -> Node {
    let mut root = Node::made(Value::Map(Vec::new()));
    apply(&mut root, &fresh_changes(entry, set_current));
    root
}

fn fresh_changes(entry: &Entry, set_current: bool) -> Vec<Change> {
    let current = if set_current { entry.name.as_str() } else { "" };
    let mut changes = vec![
        Change::Put {
            key: "apiVersion",
            value: Node::string("v1"),
        },
        Change::Put {
            key: "kind",
            value: Node::string("Config"),
        },
    ];
    changes.extend(List::ALL.map(|list| Change::Add {
        list,
        item: wanted(list, entry, None),
    }));
    changes.push(Change::Put {
        key: "current-context",
        value: Node::string(current),
    });
    changes
}

/// Puts the entry into a kubeconfig's text and returns the new text; the same text where nothing
/// needs to change. `None` and blank text count as no file. An entry of this owner is brought up
/// to date and keeps fields that kubby does not know, such as a context's namespace.
///
/// # Errors
/// [`Kind::Kubeconfig`] when the text is not a kubeconfig that can be edited (with line and
/// column), or has an entry of this name that is not this owner's (see [`check_foreign`]).
pub fn merge(text: Option<&str>, entry: &Entry, set_current: bool) -> Result<String> {
    let Some(text) = text.filter(|t| !is_blank(t)) else {
        return Ok(write::block_document(&fresh_root(entry, set_current)));
    };
    let document = read(text)?;
    refuse_foreign(&document.root, &entry.name, &entry.owner)?;
    let changes = if document.root.is_empty() {
        fresh_changes(entry, set_current)
    } else {
        merge_changes(&document.root, entry, set_current)
    };
    splice::edit(text, &document, &changes)
}

fn merge_changes(root: &Node, entry: &Entry, set_current: bool) -> Vec<Change> {
    let mut changes = Vec::new();
    for list in List::ALL {
        let mut ours = named(root, list, &entry.name);
        match ours.next() {
            None => changes.push(Change::Add {
                list,
                item: wanted(list, entry, None),
            }),
            Some((index, old)) => {
                let item = wanted(list, entry, Some(old));
                if !item.same(old) {
                    changes.push(Change::Set { list, index, item });
                }
            }
        }
        // kubectl refuses a file with a name twice in a list.
        changes.extend(ours.map(|(index, _)| Change::Drop { list, index }));
    }
    if set_current && root.text_of("current-context") != Some(&entry.name) {
        changes.push(Change::Put {
            key: "current-context",
            value: Node::string(&entry.name),
        });
    }
    changes
}

/// Takes the owner's entry of this name out of a kubeconfig's text; `None` when there is nothing
/// of it. `current-context` becomes empty if it named the entry: going back to whatever was
/// current before could let the next command hit another cluster unasked.
///
/// # Errors
/// [`Kind::Kubeconfig`] when the text is not a kubeconfig that can be edited, with line and
/// column.
pub fn remove(text: &str, name: &str, owner: &Owner) -> Result<Option<String>> {
    if is_blank(text) {
        return Ok(None);
    }
    let document = read(text)?;
    let root = &document.root;
    let mut changes = Vec::new();
    for list in List::ALL {
        let ours = named(root, list, name).filter(|(_, item)| is_ours(list, item, owner));
        changes.extend(ours.map(|(index, _)| Change::Drop { list, index }));
    }
    if changes.is_empty() {
        return Ok(None);
    }
    let context_is_ours = changes.iter().any(|c| {
        matches!(
            c,
            Change::Drop {
                list: List::Contexts,
                ..
            }
        )
    });
    if context_is_ours && root.text_of("current-context") == Some(name) {
        changes.push(Change::Put {
            key: "current-context",
            value: Node::string(""),
        });
    }
    splice::edit(text, &document, &changes).map(Some)
}

/// Fails if a kubeconfig has a cluster, user or context of this name that is not this owner's.
///
/// # Errors
/// [`Kind::Kubeconfig`] with a hint in that case, or when the text cannot be edited.
pub fn check_foreign(text: Option<&str>, name: &str, owner: &Owner) -> Result<()> {
    match text.filter(|t| !is_blank(t)) {
        Some(text) => refuse_foreign(&read(text)?.root, name, owner),
        None => Ok(()),
    }
}

/// The names of all clusters, users and contexts that carry kubby's mark, with whose they are,
/// each once.
///
/// # Errors
/// [`Kind::Kubeconfig`] when the text is not a kubeconfig that can be edited.
pub fn owned(text: &str) -> Result<Vec<(String, Owner)>> {
    let mut all = Vec::new();
    if is_blank(text) {
        return Ok(all);
    }
    let root = read(text)?.root;
    for list in List::ALL {
        for item in root.get(list.key()).map_or(&[][..], Node::items) {
            let mark = item.get(list.inner()).and_then(mark);
            let whose = mark.and_then(|m| Some((m.text_of("profile")?, m.text_of("home")?)));
            let (Some(name), Some((profile, home))) = (item.text_of("name"), whose) else {
                continue;
            };
            let owner = Owner {
                profile: profile.to_owned(),
                home: home.into(),
            };
            let found = (name.to_owned(), owner);
            if !all.contains(&found) {
                all.push(found);
            }
        }
    }
    Ok(all)
}

fn refuse_foreign(root: &Node, name: &str, owner: &Owner) -> Result<()> {
    for list in List::ALL {
        let Some((_, item)) = named(root, list, name).find(|(_, i)| !is_ours(list, i, owner))
        else {
            continue;
        };
        let what = list.inner();
        let other = item
            .get(what)
            .and_then(mark)
            .and_then(|m| m.text_of("home"));
        let whose = match other {
            Some(home) => format!("belongs to the kubby profiles in {home}"),
            None => "was not made by kubby".to_owned(),
        };
        return Err(Error::new(
            Kind::Kubeconfig,
            format!("the kubeconfig has a {what} `{name}` already, and it {whose}"),
        )
        .with_hint("choose another name: --profile NAME")
        .with_hint(format!(
            "or remove that entry, if nobody needs it: kubectl config delete-{what} {name}"
        )));
    }
    Ok(())
}

/// Compares a kubeconfig with the entry that should be in it; `None` and blank text count as no
/// file.
///
/// # Errors
/// [`Kind::Kubeconfig`] when the text is not a kubeconfig that can be edited.
pub fn inspect(text: Option<&str>, entry: &Entry) -> Result<Status> {
    let Some(text) = text.filter(|t| !is_blank(t)) else {
        return Ok(Status {
            state: State::Missing,
            current: false,
        });
    };
    let root = read(text)?.root;
    let name = &entry.name;
    let found = List::ALL.map(|list| named(&root, list, name).next().map(|(_, item)| item));
    let state = if found.iter().all(Option::is_none) {
        State::Missing
    } else {
        let differs = List::ALL
            .iter()
            .zip(found)
            .find_map(|(list, item)| match item {
                None => Some(format!("the {} `{name}` is missing", list.inner())),
                Some(item) => difference(*list, item, entry),
            });
        differs.map_or(State::Configured, |why| State::Misconfigured { why })
    };
    Ok(Status {
        state,
        current: root.text_of("current-context") == Some(name),
    })
}

fn difference(list: List, item: &Node, entry: &Entry) -> Option<String> {
    let what = format!("the {} `{}`", list.inner(), entry.name);
    if !is_ours(list, item, &entry.owner) {
        return Some(format!("{what} is not kubby's"));
    }
    let content = item.get(list.inner())?;
    if let Some(field) = list.conflicting().iter().find(|f| content.get(f).is_some()) {
        return Some(format!("{what} also has `{field}`"));
    }
    let differs = |(field, node): &(&str, Node)| content.text_of(field) != node.text();
    let (field, _) = list.fields(entry).into_iter().find(differs)?;
    Some(format!("{what} has another {field}"))
}

/// Whether a kubeconfig holds nothing but what kubby writes around entries: no entry, no comment
/// and no other field. Such a file can be deleted without loss.
pub fn is_skeleton(text: &str) -> bool {
    if is_blank(text) {
        return true;
    }
    let Ok(document) = read(text) else {
        return false;
    };
    document.comments.is_empty()
        && document
            .root
            .pairs()
            .iter()
            .all(|(key, value)| match key.text.as_str() {
                "apiVersion" => value.text() == Some("v1"),
                "kind" => value.text() == Some("Config"),
                "clusters" | "users" | "contexts" | "current-context" => value.is_empty(),
                _ => false,
            })
}

/// Nothing but white space, perhaps after a byte-order mark.
fn is_blank(text: &str) -> bool {
    text.trim_start_matches('\u{feff}').trim().is_empty()
}

/// The items of a list that have the name, with their indices.
fn named<'n>(root: &'n Node, list: List, name: &'n str) -> impl Iterator<Item = (usize, &'n Node)> {
    let items = root.get(list.key()).map_or(&[][..], Node::items);
    items
        .iter()
        .enumerate()
        .filter(move |(_, item)| item.text_of("name") == Some(name))
}

fn is_ours(list: List, item: &Node, owner: &Owner) -> bool {
    item.get(list.inner())
        .is_some_and(|content| owner.owns(content))
}

/// An item as it should be: the old one with kubby's fields set and conflicting ones gone.
fn wanted(list: List, entry: &Entry, old: Option<&Node>) -> Node {
    let mut content = old
        .and_then(|item| item.get(list.inner()))
        .cloned()
        .unwrap_or_else(|| Node::made(Value::Map(Vec::new())));
    if let Value::Map(pairs) = &mut content.value {
        pairs.retain(|(key, _)| !list.conflicting().contains(&key.text.as_str()));
    }
    for (field, value) in list.fields(entry) {
        content.put(field, value);
    }
    // Only what carries the owner's mark gets here with an old item, so the mark is there.
    if old.is_none() {
        content.put("extensions", Node::seq(vec![entry.owner.extension()]));
    }
    let mut item = old
        .cloned()
        .unwrap_or_else(|| Node::made(Value::Map(Vec::new())));
    item.put(list.inner(), content);
    item.put("name", Node::string(&entry.name));
    item
}

/// Carries changes out on a tree.
pub(super) fn apply(root: &mut Node, changes: &[Change]) {
    if !matches!(root.value, Value::Map(_)) {
        *root = Node::made(Value::Map(Vec::new()));
    }
    for change in changes {
        match change {
            Change::Put { key, value } => root.put(key, value.clone()),
            Change::Set { list, index, item } => {
                if let Some(old) = list_mut(root, *list).get_mut(*index) {
                    *old = item.clone();
                }
            }
            Change::Add { list, item } => list_mut(root, *list).push(item.clone()),
            Change::Drop { .. } => {}
        }
    }
    // Last, so that the indices above hold, and from the end for the same reason.
    for change in changes.iter().rev() {
        if let Change::Drop { list, index } = change {
            list_mut(root, *list).remove(*index);
        }
    }
}

/// The items of a list of the tree, made where there is none.
fn list_mut(root: &mut Node, list: List) -> &mut Vec<Node> {
    if !matches!(root.value, Value::Map(_)) {
        root.value = Value::Map(Vec::new());
    }
    let Value::Map(pairs) = &mut root.value else {
        unreachable!("made a mapping above")
    };
    let place = pairs
        .iter()
        .position(|(key, _)| key.text == list.key())
        .unwrap_or_else(|| {
            pairs.push((Key::made(list.key()), Node::seq(Vec::new())));
            pairs.len() - 1
        });
    let node = &mut pairs[place].1;
    if !matches!(node.value, Value::Seq(_)) {
        *node = Node {
            layout: Layout::Made,
            ..Node::seq(Vec::new())
        };
    }
    let Value::Seq(items) = &mut node.value else {
        unreachable!("made a list above")
    };
    items
}
