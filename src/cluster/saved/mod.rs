//! Memory and disk of machines in files: saving and loading them, and the commands that do so.

pub(crate) mod fork;
pub(crate) mod garbage;
pub(crate) mod identity;
pub(crate) mod load;
pub(crate) mod restore;
pub(crate) mod save;
pub(crate) mod snapshots;
pub(crate) mod state;
pub(crate) mod support;
pub(crate) mod suspend;
pub(crate) mod template;
pub(crate) mod template_file;
pub(crate) mod templates;
