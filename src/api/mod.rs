//! A small client of kube-apiserver for kubby's own use: its readiness, nodes, add-ons, Services,
//! the dashboard. All requests of the user go through kubectl.

mod answer;
mod client;
mod node;
mod path;
mod transport;

pub use answer::Answer;
pub(crate) use answer::items;
pub use client::ApiClient;
pub(crate) use node::{NodeStatus, role_label};
pub(crate) use path::{Collection, segment, selected};
#[cfg(test)]
pub(crate) use transport::{Request, Transport};
