//! Kubeconfigs of the components in a node, such as the controller manager's.

use super::node::Node;
use super::{Entry, List, Owner, write};

/// What a component needs to reach the API server.
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

/// A kubeconfig for one component: cluster `kubernetes`, user and context named after it, keys
/// embedded. It is never merged, so it carries no owner's mark.
pub fn render_component(config: &ComponentConfig) -> String {
    let cluster = "kubernetes";
    let entry = Entry {
        name: config.name.into(),
        server: config.server.into(),
        ca_pem: config.ca_pem.into(),
        client_cert_pem: config.cert_pem.into(),
        client_key_pem: config.key_pem.into(),
        owner: Owner {
            profile: String::new(),
            home: "".into(),
        },
    };
    let mut root = Node::map([
        ("apiVersion", Node::string("v1")),
        ("kind", Node::string("Config")),
    ]);
    for list in List::ALL {
        let mut content = Node::map([]);
        for (field, value) in list.fields(&entry) {
            content.put(field, value);
        }
        let mut name = config.name;
        match list {
            List::Clusters => name = cluster,
            List::Contexts => content.put("cluster", Node::string(cluster)),
            List::Users => {}
        }
        let item = Node::map([(list.inner(), content), ("name", Node::string(name))]);
        root.put(list.key(), Node::seq(vec![item]));
    }
    root.put("current-context", Node::string(config.name));
    write::block_document(&root)
}
