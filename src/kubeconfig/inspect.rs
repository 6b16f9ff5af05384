//! Looking into a kubeconfig: the state of an entry, and the owners of entries.

use serde_json::Value;

use super::entry::{Entry, List, Owner};
use super::text::{self, Root};
use crate::error::{Error, Result};

/// The state of an entry in a kubeconfig.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Cluster, user and context are there and say what they should.
    Configured,
    /// None of the three is there.
    Missing,
    /// Something is there, but not what should be.
    Misconfigured {
        /// The difference, for people: ``the cluster `kubby` has another server``.
        why: String,
    },
}

/// The state of an entry in a kubeconfig, and whether it is the one in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether the entry is there and right.
    pub state: State,
    /// Whether `current-context` names it.
    pub current: bool,
}

/// Reads a kubeconfig's data; none for no file and for blank text.
fn data(text: Option<&str>) -> Result<Root> {
    match text.filter(|text| !text::is_blank(text)) {
        Some(text) => text::read(text),
        None => Ok(Root::new()),
    }
}

/// Compares a kubeconfig with the entry that should be in it; `None` and blank text count as no
/// file.
///
/// # Errors
/// [`Kind::Kubeconfig`](crate::error::Kind::Kubeconfig) when the text is not a kubeconfig that can be edited.
pub fn inspect(text: Option<&str>, entry: &Entry) -> Result<Status> {
    let root = data(text)?;
    let name = entry.name.as_str();
    let found = List::ALL.map(|list| {
        let item = list.items(&root).iter().find(|item| item["name"] == name);
        (list, item)
    });
    let state = if found.iter().all(|(_, item)| item.is_none()) {
        State::Missing
    } else {
        let differs = found.iter().find_map(|(list, item)| match item {
            None => Some(format!("the {} `{name}` is missing", list.inner())),
            Some(item) => difference(*list, item, entry),
        });
        differs.map_or(State::Configured, |why| State::Misconfigured { why })
    };
    let current = root
        .get("current-context")
        .is_some_and(|current| current == name);
    Ok(Status { state, current })
}

fn difference(list: List, item: &Value, entry: &Entry) -> Option<String> {
    let what = format!("the {} `{}`", list.inner(), entry.name);
    if !entry.owner.owns(list, item) {
        return Some(format!("{what} is not kubby's"));
    }
    let content = &item[list.inner()];
    if let Some(field) = list.conflicting().iter().find(|f| content.get(f).is_some()) {
        return Some(format!("{what} also has `{field}`"));
    }
    let fields = list.fields(entry);
    let (field, _) = fields
        .iter()
        .find(|(field, value)| content[field] != *value)?;
    Some(format!("{what} has another {field}"))
}

/// Fails if a kubeconfig has a cluster, user or context of this name that is not this owner's.
///
/// # Errors
/// [`Kind::Kubeconfig`](crate::error::Kind::Kubeconfig) with a hint in that case, or when the text cannot be edited.
pub(crate) fn check_foreign(text: Option<&str>, name: &str, owner: &Owner) -> Result<()> {
    refuse_foreign(&data(text)?, name, owner)
}

/// Does the same for data that have been read.
pub(super) fn refuse_foreign(root: &Root, name: &str, owner: &Owner) -> Result<()> {
    for list in List::ALL {
        let foreign = |item: &&Value| item["name"] == name && !owner.owns(list, item);
        let Some(item) = list.items(root).iter().find(foreign) else {
            continue;
        };
        let what = list.inner();
        let whose = match list.owner(item) {
            Some(other) => format!("belongs to the kubby profiles in {}", other.home.display()),
            None => "was not made by kubby".to_owned(),
        };
        return Err(Error::kubeconfig(format!(
            "the kubeconfig has a {what} `{name}` already, and it {whose}"
        ))
        .with_hint("choose another name: --profile NAME")
        .with_hint(format!(
            "or remove that entry, if it is not needed: kubectl config delete-{what} {name}"
        )));
    }
    Ok(())
}

/// Returns the names of all clusters, users and contexts that carry kubby's mark, with their
/// owners, each once.
///
/// # Errors
/// [`Kind::Kubeconfig`](crate::error::Kind::Kubeconfig) when the text is not a kubeconfig that can be edited.
pub(crate) fn owned(text: &str) -> Result<Vec<(String, Owner)>> {
    let root = data(Some(text))?;
    let mut all = Vec::new();
    for list in List::ALL {
        for item in list.items(&root) {
            let (Some(name), Some(owner)) = (item["name"].as_str(), list.owner(item)) else {
                continue;
            };
            let found = (name.to_owned(), owner);
            if !all.contains(&found) {
                all.push(found);
            }
        }
    }
    Ok(all)
}

/// Returns whether a kubeconfig holds nothing but what kubby writes around entries: no entry, no
/// comment and no other field. Such a file can be deleted without loss.
pub(crate) fn is_skeleton(text: &str) -> bool {
    let Ok(root) = data(Some(text)) else {
        return false;
    };
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    // Only a comment has one then.
    !text.contains('#')
        && root.iter().all(|(key, value)| match key.as_str() {
            "apiVersion" => value == "v1",
            "kind" => value == "Config",
            "clusters" | "users" | "contexts" | "current-context" => is_empty(value),
            _ => false,
        })
}
