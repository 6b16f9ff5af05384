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

pub use apply::{Applied, apply, remove};
pub use definition::{Addon, builtin, default_names, find};
pub use folder::{Folder, forget, is_folder, keep, kept, read};
pub use inventory::names as applied_names;
pub use object::{Object, ObjectRef};
pub use wait::Rollouts;
