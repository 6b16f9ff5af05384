//! Container images in the node: brought in from archives and local engines, listed, named,
//! removed, pulled, saved, built.

pub mod archive;
pub(crate) mod build;
mod load;
pub mod node;
pub mod reference;
mod remove;
mod save;
mod source;

use crate::progress::Progress;

pub use build::{BuildOptions, Built, build};
pub use load::{Loaded, load};
pub use reference::Reference;
pub use remove::{Removed, remove};
pub use save::save;

/// Warns of a name that pods would not take from the node's store unless they are told to.
pub fn pull_policy_warning(name: &Reference, progress: &dyn Progress) {
    if name.is_always_pulled() {
        progress.warn(&format!(
            "Kubernetes pulls {} from its registry for every container, since its tag is `latest`; \
             set `imagePullPolicy: IfNotPresent` in the pod or give the image another tag",
            name.familiar()
        ));
    }
}
