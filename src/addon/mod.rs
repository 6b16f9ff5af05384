//! Add-ons: folders of manifests and images that are applied to a cluster, waited for, and removed
//! again. kubby's own are embedded from `images/addons`; users have folders of their own.

mod apply;
mod definition;
mod folder;
mod inventory;
mod object;
mod resource;
mod rollout;
mod wait;

pub use apply::apply;
pub(crate) use apply::remove;
pub use definition::find;
pub(crate) use definition::{Addon, builtin, default_names};
pub use folder::read;
pub(crate) use folder::{Folder, forget, is_folder, keep, kept};
pub(crate) use inventory::names as applied_names;
pub(crate) use object::Object;
pub(crate) use wait::Rollouts;
