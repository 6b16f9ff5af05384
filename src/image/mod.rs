//! Container images in the node: loaded from archives and local engines, listed, named, removed,
//! pulled, saved, built.

pub(crate) mod archive;
pub(crate) mod build;
mod list;
mod load;
pub(crate) mod node;
pub(crate) mod reference;
mod remove;
mod save;
mod source;
mod spread;

pub(crate) use build::{BuildOptions, build};
pub(crate) use list::{Listed, list};
pub(crate) use load::{Loaded, load};
pub use reference::Reference;
pub(crate) use remove::{remove, remove_too};
pub(crate) use save::save;
pub(crate) use spread::{bring, load_everywhere, spread};
