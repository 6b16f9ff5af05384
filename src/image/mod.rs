//! Container images in the node: loaded from archives and local engines, listed, named, removed,
//! pulled, saved, built.

pub mod archive;
pub(crate) mod build;
mod load;
pub mod node;
pub mod reference;
mod remove;
mod save;
mod source;

pub use build::{BuildOptions, Built, build};
pub use load::{Loaded, load};
pub use node::{ImageStore, NodeImage};
pub use reference::Reference;
pub use remove::{Removed, remove};
pub use save::save;
