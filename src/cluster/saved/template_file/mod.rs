//! Warm templates as one file, to carry them from one host or CI job to another: `kubby template
//! export` and `kubby template import`.
//!
//! The file is a tar compressed with zstd. Its first member says what the template is and what
//! every other member must be; those are each node's memory, devices and disk layer, the keys and
//! certificates, and, unless left out, the node image and the components that they build on.

mod export;
pub(crate) mod header;
mod import;
mod incoming;
mod pages;
mod place;
mod stream;

pub(crate) use export::export;
pub(crate) use import::import;
pub(crate) use place::Place;
