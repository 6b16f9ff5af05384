//! The user's kubeconfig file: adding a cluster's entry and removing it again.
//!
//! Editing is a pure function from text to text ([`merge`], [`remove`]). It decides on the data, as
//! kubectl sees them, and changes the text through a syntax tree that keeps everything else:
//! comments, order, quoting, anchors and unknown fields. The new text is parsed again and written
//! only if it means what was intended. [`install`] and [`uninstall`] do the same to a file, under
//! kubectl's lock and atomically.

mod edit;
mod entry;
mod file;
#[cfg(test)]
mod generate;
mod inspect;
mod lock;
mod path;
#[cfg(test)]
mod tests;
mod text;
mod write;

pub(crate) use edit::{merge, remove};
pub use entry::{ComponentConfig, Entry, Owner, render, render_component};
pub(crate) use file::load;
pub use file::{install, uninstall};
pub use inspect::{State, inspect};
pub(crate) use inspect::{check_foreign, owned};
pub(crate) use path::{default_path, listed_paths};
