//! A cluster's entry in a kubeconfig, and kubeconfigs that hold one entry alone.

use std::path::PathBuf;

use base64::Engine as _;
use serde_json::{Value, json};

use super::text::{self, Root};
use crate::fsutil;

/// The name of the `extensions` item that marks an entry as kubby's.
pub(crate) const OWNER_EXTENSION: &str = "kubby.dev/owner";

/// The owner of an entry. It is written into the entry as an extension, which sets kubby's entries
/// apart from the user's and from those of another kubby home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The profile's name.
    pub profile: String,
    /// The directory that holds the profile, absolute.
    pub home: PathBuf,
}

impl Owner {
    /// Returns whether this is the other owner, however the home is written.
    pub fn is(&self, other: &Owner) -> bool {
        self.profile == other.profile && fsutil::same_place(&self.home, &other.home)
    }

    /// Returns whether an item of a list carries this owner's mark.
    pub(super) fn owns(&self, list: List, item: &Value) -> bool {
        list.owner(item).is_some_and(|owner| self.is(&owner))
    }
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
    /// The owner of the entry.
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

/// One of the three lists of a kubeconfig.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    Clusters,
    Users,
    Contexts,
}

impl List {
    /// All of them, in the order in which kubby writes them.
    pub(super) const ALL: [List; 3] = [List::Clusters, List::Users, List::Contexts];

    /// Returns the key of the list.
    pub(super) fn key(self) -> &'static str {
        match self {
            List::Clusters => "clusters",
            List::Users => "users",
            List::Contexts => "contexts",
        }
    }

    /// Returns the key of an item's content, which also is the word for such an item.
    pub(super) fn inner(self) -> &'static str {
        match self {
            List::Clusters => "cluster",
            List::Users => "user",
            List::Contexts => "context",
        }
    }

    /// Returns the list's items in a kubeconfig.
    pub(super) fn items(self, root: &Root) -> &[Value] {
        let list = root.get(self.key()).and_then(Value::as_array);
        list.map_or(&[], Vec::as_slice)
    }

    /// Returns the owner that an item is marked with.
    pub(super) fn owner(self, item: &Value) -> Option<Owner> {
        let extensions = item[self.inner()]["extensions"].as_array()?;
        let mark = &extensions.iter().find(|e| e["name"] == OWNER_EXTENSION)?["extension"];
        Some(Owner {
            profile: mark["profile"].as_str()?.to_owned(),
            home: mark["home"].as_str()?.into(),
        })
    }

    /// Returns the fields that kubby sets in an item of this list.
    pub(super) fn fields(self, entry: &Entry) -> [(&'static str, String); 2] {
        match self {
            List::Clusters => [
                ("certificate-authority-data", encoded(&entry.ca_pem)),
                ("server", entry.server.clone()),
            ],
            List::Users => [
                ("client-certificate-data", encoded(&entry.client_cert_pem)),
                ("client-key-data", encoded(&entry.client_key_pem)),
            ],
            List::Contexts => [
                ("cluster", entry.name.clone()),
                ("user", entry.name.clone()),
            ],
        }
    }

    /// Returns the fields that would overrule or contradict those that kubby sets.
    pub(super) fn conflicting(self) -> &'static [&'static str] {
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

    /// Returns an item as it should be: the old one, which must carry the owner's mark, with
    /// kubby's fields set and conflicting ones removed; or a new one.
    pub(super) fn item(self, entry: &Entry, old: Option<&Value>) -> Value {
        let mut item = old.cloned().unwrap_or_default();
        let content = &mut item[self.inner()];
        if let Some(content) = content.as_object_mut() {
            content.retain(|field, _| !self.conflicting().contains(&field.as_str()));
        }
        for (field, value) in self.fields(entry) {
            content[field] = value.into();
        }
        if old.is_none() {
            let (home, profile) = (entry.owner.home.to_string_lossy(), &entry.owner.profile);
            content["extensions"] = json!([{
                "extension": {"home": home, "profile": profile},
                "name": OWNER_EXTENSION,
            }]);
        }
        item["name"] = entry.name.as_str().into();
        item
    }
}

fn encoded(pem: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(pem)
}

/// Returns the data of a kubeconfig that holds the entry alone.
pub(super) fn alone(entry: &Entry, set_current: bool) -> Root {
    let mut root = Root::new();
    root.insert("apiVersion".into(), "v1".into());
    root.insert("kind".into(), "Config".into());
    for list in List::ALL {
        root.insert(list.key().into(), vec![list.item(entry, None)].into());
    }
    let current = if set_current { &entry.name } else { "" };
    root.insert("current-context".into(), current.into());
    root
}

/// Returns a kubeconfig that holds the entry alone, as the current context: for the profile's own
/// file.
pub fn render(entry: &Entry) -> String {
    text::yaml(&alone(entry, true).into())
}

/// The settings with which a component in a node, such as the controller manager, reaches the API
/// server.
pub struct ComponentConfig<'a> {
    /// The component's name, such as `kube-scheduler`; names its user and context.
    pub name: &'a str,
    /// The API server's URL as seen in the node: `https://127.0.0.1:6443`.
    pub server: &'a str,
    /// The certificate authority of the API server, PEM.
    pub ca_pem: &'a str,
    /// The component's certificate, PEM.
    pub cert_pem: &'a str,
    /// The component's private key, PEM.
    pub key_pem: &'a str,
}

/// Returns a kubeconfig for one component: cluster `kubernetes`, user and context named after it,
/// keys embedded. It is never merged, so it carries no owner's mark.
pub fn render_component(config: &ComponentConfig) -> String {
    let (name, cluster) = (config.name, "kubernetes");
    text::yaml(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "cluster": {
                "certificate-authority-data": encoded(config.ca_pem),
                "server": config.server,
            },
            "name": cluster,
        }],
        "users": [{
            "user": {
                "client-certificate-data": encoded(config.cert_pem),
                "client-key-data": encoded(config.key_pem),
            },
            "name": name,
        }],
        "contexts": [{"context": {"cluster": cluster, "user": name}, "name": name}],
        "current-context": name,
    }))
}
