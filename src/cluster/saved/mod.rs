//! Memory and disk of machines in files: saving and loading them, and the commands that do so.

pub mod fork;
pub(crate) mod garbage;
pub(crate) mod identity;
pub(crate) mod load;
pub(crate) mod restore;
pub(crate) mod save;
pub mod snapshots;
pub(crate) mod state;
pub(crate) mod support;
pub mod suspend;
pub(crate) mod template;
pub mod template_file;
pub mod templates;
