//! The node image and the Kubernetes components: from the cache, a download or a build.

mod cache;
pub(crate) mod components;
pub(crate) mod download;
pub(crate) mod node_image;
pub(crate) mod recipes;
pub(crate) mod record;
pub(crate) mod version;
