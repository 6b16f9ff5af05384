//! The node image and the Kubernetes components: from the cache, a download or a build.

mod cache;
pub mod components;
pub mod download;
pub mod node_image;
pub mod recipes;
pub(crate) mod record;
pub mod version;
