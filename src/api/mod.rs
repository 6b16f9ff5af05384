//! A small client of kube-apiserver for kubby's own use: its readiness, nodes, add-ons, Services,
//! the dashboard. All requests of the user go through kubectl.

mod client;
mod node;
mod path;

use serde_json::Value;

pub use client::{Answer, ApiClient};
pub use node::{CONTROL_PLANE_LABEL, NodeStatus};
pub use path::{Collection, segment, selected};

/// Returns the items of a list in the API's answers; none where there is no list.
pub fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}
