//! Changing a kubeconfig's text, so that it means what is wanted and all else stays.

use serde_json::Value;
use yaml_edit::{Document, YamlFile};

use super::entry::{self, Entry, List, Owner};
use super::inspect;
use super::text::{self, Root};
use crate::error::{Error, Result};

/// The items that the three lists are to have: in the place of each old item what becomes of it,
/// nothing where it is removed; then the added ones.
type Items = [Vec<Option<Value>>; 3];

/// Puts the entry into a kubeconfig's text and returns the new text; the same text where nothing
/// needs to change. `None` and blank text count as no file. An entry of this owner is brought up
/// to date and keeps fields that kubby does not know, such as a context's namespace.
///
/// # Errors
/// [`Kind::Kubeconfig`](crate::error::Kind::Kubeconfig) when the text is not a kubeconfig that can be edited (with line and
/// column), or has an entry of this name that is not this owner's (see
/// [`check_foreign`](super::check_foreign)).
pub(crate) fn merge(text: Option<&str>, entry: &Entry, set_current: bool) -> Result<String> {
    let alone = entry::alone(entry, set_current);
    let Some(text) = text.filter(|text| !text::is_blank(text)) else {
        return Ok(text::yaml(&alone.into()));
    };
    let old = text::read(text)?;
    inspect::refuse_foreign(&old, &entry.name, &entry.owner)?;
    let items = List::ALL.map(|list| {
        let mut items: Vec<_> = list.items(&old).iter().cloned().map(Some).collect();
        let mut place = None;
        for (i, item) in items.iter_mut().enumerate() {
            if !item.as_ref().is_some_and(|item| item["name"] == entry.name) {
                continue;
            }
            // kubectl refuses a file with a name twice in a list.
            *item = match place.replace(i) {
                None => Some(list.item(entry, item.as_ref())),
                Some(_) => None,
            };
        }
        if place.is_none() {
            items.push(Some(list.item(entry, None)));
        }
        items
    });
    let base = if old.is_empty() { alone } else { old.clone() };
    let current = set_current.then_some(entry.name.as_str());
    change(text, &old, base, &items, current)
}

/// Removes the owner's entry of this name from a kubeconfig's text; `None` when it has nothing of
/// it. `current-context` becomes empty if it named the entry: going back to whatever was current
/// before could let the next command hit another cluster unasked.
///
/// # Errors
/// [`Kind::Kubeconfig`](crate::error::Kind::Kubeconfig) when the text is not a kubeconfig that can be edited, with line and
/// column.
pub(crate) fn remove(text: &str, name: &str, owner: &Owner) -> Result<Option<String>> {
    if text::is_blank(text) {
        return Ok(None);
    }
    let old = text::read(text)?;
    let items = List::ALL.map(|list| {
        let ours = |item: &Value| item["name"] == name && owner.owns(list, item);
        let items = list.items(&old).iter();
        items
            .map(|item| (!ours(item)).then(|| item.clone()))
            .collect::<Vec<_>>()
    });
    let [.., contexts] = &items;
    if items.iter().flatten().all(Option::is_some) {
        return Ok(None);
    }
    let current = old
        .get("current-context")
        .filter(|current| *current == name);
    let current = current.filter(|_| contexts.contains(&None)).map(|_| "");
    change(text, &old, old.clone(), &items, current).map(Some)
}

/// Returns the text changed to mean `wanted` with these items and this current context; the same
/// text where it does already.
fn change(
    text: &str,
    old: &Root,
    mut wanted: Root,
    items: &Items,
    current: Option<&str>,
) -> Result<String> {
    for (list, items) in List::ALL.iter().zip(items) {
        let now: Vec<Value> = items.iter().flatten().cloned().collect();
        if now != list.items(old) {
            wanted.insert(list.key().into(), now.into());
        }
    }
    if let Some(current) = current {
        wanted.insert("current-context".into(), current.into());
    }
    if wanted == *old {
        return Ok(text.to_owned());
    }
    let is_right = |new: &String| text::read(new).is_ok_and(|new| new == wanted);
    let new = match text::json_like(text, &wanted) {
        Some(json) => Some(json),
        None => in_place(text, old, &wanted, items),
    };
    // Without a comment, nothing of the user's is lost by writing all data in the usual form.
    let canonical = || (!text.contains('#')).then(|| text::yaml(&wanted.clone().into()));
    let new = new
        .filter(is_right)
        .or_else(|| canonical().filter(is_right));
    new.ok_or_else(|| {
        Error::kubeconfig("cannot edit the kubeconfig without changing its meaning").with_hint(
            "let kubectl write it in its usual form, without comments: \
             kubectl config view --raw --flatten",
        )
    })
}

/// Proposes the changed text; nothing where the syntax is not understood.
fn in_place(text: &str, old: &Root, wanted: &Root, items: &Items) -> Option<String> {
    let file = YamlFile::parse(text).to_result().ok()?;
    let document = file.ensure_document();
    for (key, value) in wanted {
        if old.get(key) == Some(value) {
            continue;
        }
        let list = List::ALL.iter().position(|list| list.key() == key);
        // An empty list is written in block style, unless there is a comment in it.
        let sequence = document
            .get_sequence(key)
            .filter(|sequence| !sequence.is_empty() || sequence.to_string().contains('#'));
        let (Some(list), Some(sequence)) = (list, sequence) else {
            document.set(key, node(value)?);
            continue;
        };
        let old = List::ALL[list].items(old);
        for (i, item) in items[list].iter().enumerate().rev() {
            match (item, old.get(i)) {
                (None, _) => {
                    sequence.remove(i);
                }
                (Some(item), None) => sequence.push(node(item)?),
                (Some(item), Some(old)) if item != old => {
                    sequence.set(i, node(item)?);
                }
                _ => {}
            }
        }
    }
    Some(file.to_string())
}

/// Returns data as a part of a syntax tree.
fn node(value: &Value) -> Option<Document> {
    text::yaml(value).parse().ok()
}
