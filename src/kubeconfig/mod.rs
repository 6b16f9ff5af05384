//! The user's kubeconfig file: putting a cluster's entry in and taking it out again.
//!
//! Editing is a pure function from text to text ([`merge`], [`remove`]). It changes the lines of
//! kubby's own entries and nothing else: comments, order, quoting, anchors and unknown fields of
//! the rest stay. The result is parsed again and compared with the tree that is wanted; where
//! such an edit in place cannot be proven right, the whole file is written anew from its data.
//! [`install`] and [`uninstall`] do the same to a file, under kubectl's lock and atomically.

use std::path::PathBuf;

use base64::Engine as _;

use crate::error::Result;
use node::{Node, Value};

mod component;
mod edit;
mod file;
#[cfg(test)]
mod generate;
mod lock;
mod node;
mod parse;
mod splice;
#[cfg(test)]
mod tests;
mod write;

pub use component::{ComponentConfig, render_component};
pub use edit::{check_foreign, inspect, is_skeleton, merge, owned, remove};
pub use file::{default_path, install, load, uninstall};

/// The name of the `extensions` item that marks an entry as kubby's.
pub const OWNER_EXTENSION: &str = "kubby.dev/owner";

/// Whose an entry is. It is written into the entry as an extension, so that kubby's entries can
/// be told from the user's and from those of another kubby home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The profile's name.
    pub profile: String,
    /// The directory that holds the profile, absolute.
    pub home: PathBuf,
}

/// A cluster's entry: a cluster, a user and a context of one name.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name of the cluster, the user and the context.
    pub name: String,
    /// The API server's URL, such as `https://127.0.0.1:6443`.
    pub server: String,
    /// The certificate authority of the API server, PEM.
    pub ca_pem: String,
    /// The user's certificate, PEM.
    pub client_cert_pem: String,
    /// The user's private key, PEM.
    pub client_key_pem: String,
    /// Whose the entry is.
    pub owner: Owner,
}

impl std::fmt::Debug for Entry {
    /// Leaves the private key out, so that no log can hold it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("name", &self.name)
            .field("server", &self.server)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// How an entry stands in a kubeconfig.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Cluster, user and context are there and say what they should.
    Configured,
    /// None of the three is there.
    Missing,
    /// Something is there, but not what should be.
    Misconfigured {
        /// What differs, for people: ``the cluster `kubby` has another server``.
        why: String,
    },
}

/// How an entry stands in a kubeconfig, and whether it is the one in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether the entry is there and right.
    pub state: State,
    /// Whether `current-context` names it.
    pub current: bool,
}

/// A kubeconfig that holds the entry alone, as the current context: for the profile's own file.
pub fn render(entry: &Entry) -> String {
    write::block_document(&edit::fresh_root(entry, true))
}

/// One of the three lists of a kubeconfig.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Clusters,
    Users,
    Contexts,
}

impl List {
    /// All of them, in the order in which kubby writes them.
    const ALL: [List; 3] = [List::Clusters, List::Users, List::Contexts];

    /// The key of the list.
    fn key(self) -> &'static str {
        match self {
            List::Clusters => "clusters",
            List::Users => "users",
            List::Contexts => "contexts",
        }
    }

    /// The key of an item's content, which also is the word for such an item.
    fn inner(self) -> &'static str {
        match self {
            List::Clusters => "cluster",
            List::Users => "user",
            List::Contexts => "context",
        }
    }

    /// The fields that kubby sets in an item of this list.
    fn fields(self, entry: &Entry) -> Vec<(&'static str, Node)> {
        let data = |pem: &str| {
            Node::string(base64::engine::general_purpose::STANDARD.encode(pem.as_bytes()))
        };
        match self {
            List::Clusters => vec![
                ("certificate-authority-data", data(&entry.ca_pem)),
                ("server", Node::string(&entry.server)),
            ],
            List::Users => vec![
                ("client-certificate-data", data(&entry.client_cert_pem)),
                ("client-key-data", data(&entry.client_key_pem)),
            ],
            List::Contexts => vec![
                ("cluster", Node::string(&entry.name)),
                ("user", Node::string(&entry.name)),
            ],
        }
    }

    /// Fields that would overrule or contradict those that kubby sets.
    fn conflicting(self) -> &'static [&'static str] {
        match self {
            List::Clusters => &[
                "certificate-authority",
                "insecure-skip-tls-verify",
                "tls-server-name",
            ],
            List::Users => &[
                "client-certificate",
                "client-key",
                "token",
                "tokenFile",
                "username",
                "password",
                "auth-provider",
                "exec",
            ],
            List::Contexts => &[],
        }
    }
}

impl Owner {
    fn extension(&self) -> Node {
        Node::map([
            (
                "extension",
                Node::map([
                    ("home", Node::string(self.home.to_string_lossy())),
                    ("profile", Node::string(&self.profile)),
                ]),
            ),
            ("name", Node::string(OWNER_EXTENSION)),
        ])
    }

    /// Whether the content of an item (its cluster, user or context) carries this owner's mark.
    fn owns(&self, content: &Node) -> bool {
        let Some(mark) = mark(content) else {
            return false;
        };
        mark.text_of("profile") == Some(&self.profile)
            && mark.text_of("home") == Some(&*self.home.to_string_lossy())
    }
}

/// kubby's mark in the content of an item, whosever it is.
fn mark(content: &Node) -> Option<&Node> {
    content
        .get("extensions")?
        .items()
        .iter()
        .find(|e| e.text_of("name") == Some(OWNER_EXTENSION))?
        .get("extension")
}

/// Whether a list of the tree has a usable form: a list, or nothing.
fn is_list_or_nothing(node: &Node) -> bool {
    node.tag.is_none() && matches!(node.value, Value::Seq(_) | Value::Null)
}

/// Reads a kubeconfig for editing: the tree of its one mapping, checked.
fn read(text: &str) -> Result<parse::Document> {
    let document = parse::parse(text)?;
    let root = &document.root;
    let refuse = |node: &Node, what: &str| Err(parse::at(text, node.span.start, what));
    match &root.value {
        Value::Null => return Ok(document),
        Value::Map(_) if root.tag.is_none() => {}
        _ => return refuse(root, "a kubeconfig must be a mapping"),
    }
    if let Some((key, _)) = root.pairs().iter().find(|(k, _)| k.text == "<<") {
        let what = "a merge key (`<<`) at the top level hides where entries belong; \
                    write out what it stands for";
        return Err(parse::at(text, key.span.start, what));
    }
    if let Some(kind) = root
        .get("kind")
        .filter(|k| !k.is_empty() && k.text() != Some("Config"))
    {
        return refuse(
            kind,
            "its kind is not `Config`, so this is not a kubeconfig",
        );
    }
    for list in List::ALL {
        if let Some(node) = root.get(list.key()).filter(|n| !is_list_or_nothing(n)) {
            return refuse(node, &format!("`{}` must be a list", list.key()));
        }
    }
    if let Some(node) = root.get("current-context")
        && matches!(node.value, Value::Seq(_) | Value::Map(_))
    {
        return refuse(node, "`current-context` must be a string");
    }
    Ok(document)
}
