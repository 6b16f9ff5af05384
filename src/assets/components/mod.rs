//! The Kubernetes components: one read-only volume per version.
//!
//! [`ensure()`] returns a [`ComponentSet`] from the cache, or makes one: out of the official
//! downloads, or out of Go modules where the download hosts are out of reach. What Kubernetes does
//! not come with, but a cluster needs, is built in any case (`extras/list.rs`). Everything that goes into
//! a set is hashed to its key; a set appears in the cache whole or not at all.

pub(crate) mod archive;
mod build;
mod cache;
mod catalog;
mod cni;
mod ensure;
mod extras;
mod go;
mod gomod;
mod inputs;
mod local;
mod manifest;
mod oci;
mod official;
mod parallel;
mod registry;
mod seed;
mod set;
mod stage;
mod state;
mod volume;

pub(crate) use cache::{check_key, import, load, staging};
pub use catalog::{IMAGES, arch};
pub use ensure::ensure;
pub use set::{ComponentSet, Request, Source};
