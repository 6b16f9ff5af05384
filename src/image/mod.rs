//! Container images in the node: loaded from archives and local engines, listed, named, removed,
//! pulled, saved, built.

pub(crate) mod archive;
pub(crate) mod build;
mod load;
pub(crate) mod node;
pub(crate) mod reference;
mod remove;
mod save;
mod source;

pub(crate) use build::{BuildOptions, build};
pub(crate) use load::{Loaded, load};
pub use reference::Reference;
pub(crate) use remove::remove;
pub(crate) use save::save;
